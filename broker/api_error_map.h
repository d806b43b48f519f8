#ifndef BROKER_API_ERROR_MAP_H
#define BROKER_API_ERROR_MAP_H
/* clang-format off */
/* Every error of the JetStream API: X(err_code, http_code, NAME, text). Text in braces is filled in.
 * Source: the error table of the reference server, reference/errors.json. */
#define API_ERROR_MAP(X) \
    X(10002, 400, ACCOUNT_RESOURCES_EXCEEDED, "resource limits exceeded for account") \
    X(10003, 400, BAD_REQUEST, "bad request") \
    X(10004, 503, CLUSTER_INCOMPLETE, "incomplete results") \
    X(10005, 400, CLUSTER_NO_PEERS, "{err}") \
    X(10006, 500, CLUSTER_NOT_ACTIVE, "JetStream not in clustered mode") \
    X(10007, 500, CLUSTER_NOT_ASSIGNED, "JetStream cluster not assigned to this server") \
    X(10008, 503, CLUSTER_NOT_AVAIL, "JetStream system temporarily unavailable") \
    X(10009, 500, CLUSTER_NOT_LEADER, "JetStream cluster can not handle request") \
    X(10010, 503, CLUSTER_REQUIRED, "JetStream clustering support required") \
    X(10011, 400, CLUSTER_TAGS, "tags placement not supported for operation") \
    X(10012, 500, CONSUMER_CREATE, "{err}") \
    X(10013, 400, CONSUMER_NAME_EXIST, "consumer name already in use") \
    X(10014, 404, CONSUMER_NOT_FOUND, "consumer not found") \
    X(10015, 400, SNAPSHOT_DELIVER_SUBJECT_INVALID, "deliver subject not valid") \
    X(10016, 400, CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT, "consumer expected to be durable but no durable name set in subject") \
    X(10017, 400, CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT, "consumer name in subject does not match durable name in request") \
    X(10018, 400, CONSUMER_DURABLE_NAME_NOT_SET, "consumer expected to be durable but a durable name was not set") \
    X(10019, 400, CONSUMER_EPHEMERAL_WITH_DURABLE_IN_SUBJECT, "consumer expected to be ephemeral but detected a durable name set in subject") \
    X(10020, 400, CONSUMER_EPHEMERAL_WITH_DURABLE_NAME, "consumer expected to be ephemeral but a durable name was set in request") \
    X(10021, 400, STREAM_EXTERNAL_API_OVERLAP, "stream external api prefix {prefix} must not overlap with {subject}") \
    X(10022, 400, STREAM_EXTERNAL_DEL_PREFIX_OVERLAPS, "stream external delivery prefix {prefix} overlaps with stream subject {subject}") \
    X(10023, 503, INSUFFICIENT_RESOURCES, "insufficient resources") \
    X(10024, 400, STREAM_INVALID_EXTERNAL_DELIVERY_SUBJ, "stream external delivery prefix {prefix} must not contain wildcards") \
    X(10025, 400, INVALID_JSON, "invalid JSON: {err}") \
    X(10026, 400, MAXIMUM_CONSUMERS_LIMIT, "maximum consumers limit reached") \
    X(10027, 400, MAXIMUM_STREAMS_LIMIT, "maximum number of streams reached") \
    X(10028, 500, MEMORY_RESOURCES_EXCEEDED, "insufficient memory resources available") \
    X(10029, 500, MIRROR_CONSUMER_SETUP_FAILED, "{err}") \
    X(10030, 400, MIRROR_MAX_MESSAGE_SIZE_TOO_BIG, "stream mirror must have max message size >= source") \
    X(10031, 400, MIRROR_WITH_SOURCES, "stream mirrors can not also contain other sources") \
    X(10032, 400, MIRROR_WITH_START_SEQ_AND_TIME, "stream mirrors can not have both start seq and start time configured") \
    X(10033, 400, MIRROR_WITH_SUBJECT_FILTERS, "stream mirrors can not contain filtered subjects") \
    X(10034, 400, MIRROR_WITH_SUBJECTS, "stream mirrors can not contain subjects") \
    X(10035, 503, NO_ACCOUNT, "account not found") \
    X(10036, 503, CLUSTER_UN_SUPPORT_FEATURE, "not currently supported in clustered mode") \
    X(10037, 404, NO_MESSAGE_FOUND, "no message found") \
    X(10038, 400, NOT_EMPTY_REQUEST, "expected an empty request payload") \
    X(10039, 503, NOT_ENABLED_FOR_ACCOUNT, "JetStream not enabled for account") \
    X(10040, 400, CLUSTER_PEER_NOT_MEMBER, "peer not a member") \
    X(10041, 500, RAFT_GENERAL, "{err}") \
    X(10042, 500, RESTORE_SUBSCRIBE_FAILED, "JetStream unable to subscribe to restore snapshot {subject}: {err}") \
    X(10043, 400, SEQUENCE_NOT_FOUND, "sequence {seq} not found") \
    X(10044, 400, CLUSTER_SERVER_NOT_MEMBER, "server is not a member of the cluster") \
    X(10045, 500, SOURCE_CONSUMER_SETUP_FAILED, "{err}") \
    X(10046, 400, SOURCE_MAX_MESSAGE_SIZE_TOO_BIG, "stream source must have max message size >= target") \
    X(10047, 500, STORAGE_RESOURCES_EXCEEDED, "insufficient storage resources available") \
    X(10048, 500, STREAM_ASSIGNMENT, "{err}") \
    X(10049, 500, STREAM_CREATE, "{err}") \
    X(10050, 500, STREAM_DELETE, "{err}") \
    X(10051, 500, STREAM_GENERAL_ERROR, "{err}") \
    X(10052, 500, STREAM_INVALID_CONFIG, "{err}") \
    X(10053, 500, STREAM_LIMITS, "{err}") \
    X(10054, 400, STREAM_MESSAGE_EXCEEDS_MAXIMUM, "message size exceeds maximum allowed") \
    X(10055, 400, STREAM_MIRROR_NOT_UPDATABLE, "stream mirror configuration can not be updated") \
    X(10056, 400, STREAM_MISMATCH, "stream name in subject does not match request") \
    X(10057, 500, STREAM_MSG_DELETE_FAILED, "{err}") \
    X(10058, 400, STREAM_NAME_EXIST, "stream name already in use with a different configuration") \
    X(10059, 404, STREAM_NOT_FOUND, "stream not found") \
    X(10060, 400, STREAM_NOT_MATCH, "expected stream does not match") \
    X(10061, 400, STREAM_REPLICAS_NOT_UPDATABLE, "Replicas configuration can not be updated") \
    X(10062, 500, STREAM_RESTORE, "restore failed: {err}") \
    X(10063, 503, STREAM_SEQUENCE_NOT_MATCH, "expected stream sequence does not match") \
    X(10064, 500, STREAM_SNAPSHOT, "snapshot failed: {err}") \
    X(10065, 400, STREAM_SUBJECT_OVERLAP, "subjects overlap with an existing stream") \
    X(10066, 500, STREAM_TEMPLATE_CREATE, "{err}") \
    X(10067, 500, STREAM_TEMPLATE_DELETE, "{err}") \
    X(10068, 404, STREAM_TEMPLATE_NOT_FOUND, "template not found") \
    X(10069, 500, STREAM_UPDATE, "{err}") \
    X(10070, 400, STREAM_WRONG_LAST_MSG_ID, "wrong last msg ID: {id}") \
    X(10071, 400, STREAM_WRONG_LAST_SEQUENCE, "wrong last sequence: {seq}") \
    X(10072, 500, TEMP_STORAGE_FAILED, "JetStream unable to open temp storage for restore") \
    X(10073, 400, TEMPLATE_NAME_NOT_MATCH_SUBJECT, "template name in subject does not match request") \
    X(10074, 500, STREAM_REPLICAS_NOT_SUPPORTED, "replicas > 1 not supported in non-clustered mode") \
    X(10075, 503, PEER_REMAP, "peer remap failed") \
    X(10076, 503, NOT_ENABLED, "JetStream not enabled") \
    X(10077, 503, STREAM_STORE_FAILED, "{err}") \
    X(10078, 400, CONSUMER_CONFIG_REQUIRED, "consumer config required") \
    X(10079, 400, CONSUMER_DELIVER_TO_WILDCARDS, "consumer deliver subject has wildcards") \
    X(10080, 400, CONSUMER_PUSH_MAX_WAITING, "consumer in push mode can not set max waiting") \
    X(10081, 400, CONSUMER_DELIVER_CYCLE, "consumer deliver subject forms a cycle") \
    X(10082, 400, CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED, "consumer requires ack policy for max ack pending") \
    X(10083, 400, CONSUMER_SMALL_HEARTBEAT, "consumer idle heartbeat needs to be >= 100ms") \
    X(10084, 400, CONSUMER_PULL_REQUIRES_ACK, "consumer in pull mode requires explicit ack policy on workqueue stream") \
    X(10085, 400, CONSUMER_PULL_NOT_DURABLE, "consumer in pull mode requires a durable name") \
    X(10086, 400, CONSUMER_PULL_WITH_RATE_LIMIT, "consumer in pull mode can not have rate limit set") \
    X(10087, 400, CONSUMER_MAX_WAITING_NEGATIVE, "consumer max waiting needs to be positive") \
    X(10088, 400, CONSUMER_HB_REQUIRES_PUSH, "consumer idle heartbeat requires a push based consumer") \
    X(10089, 400, CONSUMER_FC_REQUIRES_PUSH, "consumer flow control requires a push based consumer") \
    X(10090, 400, CONSUMER_DIRECT_REQUIRES_PUSH, "consumer direct requires a push based consumer") \
    X(10091, 400, CONSUMER_DIRECT_REQUIRES_EPHEMERAL, "consumer direct requires an ephemeral consumer") \
    X(10092, 400, CONSUMER_ON_MAPPED, "consumer direct on a mapped consumer") \
    X(10093, 400, CONSUMER_FILTER_NOT_SUBSET, "consumer filter subject is not a valid subset of the interest subjects") \
    X(10094, 400, CONSUMER_INVALID_POLICY, "{err}") \
    X(10095, 400, CONSUMER_INVALID_SAMPLING, "failed to parse consumer sampling configuration: {err}") \
    X(10096, 500, STREAM_INVALID, "stream not valid") \
    X(10097, 400, STREAM_HEADER_EXCEEDS_MAXIMUM, "header size exceeds maximum allowed of 64k") \
    X(10098, 400, CONSUMER_WQ_REQUIRES_EXPLICIT_ACK, "workqueue stream requires explicit ack") \
    X(10099, 400, CONSUMER_WQ_MULTIPLE_UNFILTERED, "multiple non-filtered consumers not allowed on workqueue stream") \
    X(10100, 400, CONSUMER_WQ_CONSUMER_NOT_UNIQUE, "filtered consumer not unique on workqueue stream") \
    X(10101, 400, CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL, "consumer must be deliver all on workqueue stream") \
    X(10102, 400, CONSUMER_NAME_TOO_LONG, "consumer name is too long, maximum allowed is {max}") \
    X(10103, 400, CONSUMER_BAD_DURABLE_NAME, "durable name can not contain '.', '*', '>'") \
    X(10104, 500, CONSUMER_STORE_FAILED, "error creating store for consumer: {err}") \
    X(10105, 400, CONSUMER_EXISTING_ACTIVE, "consumer already exists and is still active") \
    X(10106, 400, CONSUMER_REPLACEMENT_WITH_DIFFERENT_NAME, "consumer replacement durable config not the same") \
    X(10107, 400, CONSUMER_DESCRIPTION_TOO_LONG, "consumer description is too long, maximum allowed is {max}") \
    X(10108, 400, CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS, "consumer with flow control also needs heartbeats") \
    X(10109, 400, STREAM_SEALED, "invalid operation on sealed stream") \
    X(10110, 500, STREAM_PURGE_FAILED, "{err}") \
    X(10111, 500, STREAM_ROLLUP_FAILED, "{err}") \
    X(10112, 400, CONSUMER_INVALID_DELIVER_SUBJECT, "invalid push consumer deliver subject") \
    X(10113, 400, STREAM_MAX_BYTES_REQUIRED, "account requires a stream config to have max bytes set") \
    X(10114, 400, CONSUMER_MAX_REQUEST_BATCH_NEGATIVE, "consumer max request batch needs to be > 0") \
    X(10115, 400, CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL, "consumer max request expires needs to be >= 1ms") \
    X(10116, 400, CONSUMER_MAX_DELIVER_BACKOFF, "max deliver is required to be > length of backoff values") \
    X(10117, 500, STREAM_INFO_MAX_SUBJECTS, "subject details would exceed maximum allowed") \
    X(10118, 500, STREAM_OFFLINE, "stream is offline") \
    X(10119, 500, CONSUMER_OFFLINE, "consumer is offline") \
    X(10120, 400, NO_LIMITS, "no JetStream default or applicable tiered limit present") \
    X(10121, 400, CONSUMER_MAX_PENDING_ACK_EXCESS, "consumer max ack pending exceeds system limit of {limit}") \
    X(10122, 400, STREAM_MAX_STREAM_BYTES_EXCEEDED, "stream max bytes exceeds account limit max stream bytes") \
    X(10123, 400, STREAM_MOVE_AND_SCALE, "can not move and scale a stream in a single update") \
    X(10124, 400, STREAM_MOVE_IN_PROGRESS, "stream move already in progress") \
    X(10125, 400, CONSUMER_MAX_REQUEST_BATCH_EXCEEDED, "consumer max request batch exceeds server limit of {limit}") \
    X(10126, 400, CONSUMER_REPLICAS_EXCEEDS_STREAM, "consumer config replica count exceeds parent stream") \
    X(10127, 400, CONSUMER_NAME_CONTAINS_PATH_SEPARATORS, "Consumer name can not contain path separators") \
    X(10128, 400, STREAM_NAME_CONTAINS_PATH_SEPARATORS, "Stream name can not contain path separators") \
    X(10129, 400, STREAM_RECONFIGURE_NOT_IN_PROGRESS, "stream reconfiguration not in progress") \
    X(10130, 400, STREAM_NAME_EXIST_RESTORE_FAILED, "stream name already in use, cannot restore") \
    X(10131, 400, CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH, "Consumer create request did not match filtered subject from create subject") \
    X(10132, 400, CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH, "Consumer Durable and Name have to be equal if both are provided") \
    X(10133, 400, REPLICAS_COUNT_CANNOT_BE_NEGATIVE, "replicas count cannot be negative") \
    X(10134, 400, CONSUMER_REPLICAS_SHOULD_MATCH_STREAM, "consumer config replicas must match interest retention stream's replicas") \
    X(10135, 400, CONSUMER_METADATA_LENGTH, "consumer metadata exceeds maximum size of {limit}") \
    X(10136, 400, CONSUMER_DUPLICATE_FILTER_SUBJECTS, "consumer cannot have both FilterSubject and FilterSubjects specified") \
    X(10137, 400, CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED, "consumer with multiple subject filters cannot use subject based API") \
    X(10138, 400, CONSUMER_OVERLAPPING_SUBJECT_FILTERS, "consumer subject filters cannot overlap") \
    X(10139, 400, CONSUMER_EMPTY_FILTER, "consumer filter in FilterSubjects cannot be empty") \
    X(10140, 400, SOURCE_DUPLICATE_DETECTED, "duplicate source configuration detected") \
    X(10141, 400, SOURCE_INVALID_STREAM_NAME, "sourced stream name is invalid") \
    X(10142, 400, MIRROR_INVALID_STREAM_NAME, "mirrored stream name is invalid") \
    X(10143, 400, MIRROR_WITH_FIRST_SEQ, "stream mirrors can not have first sequence configured") \
    X(10144, 400, SOURCE_MULTIPLE_FILTERS_NOT_ALLOWED, "source with multiple subject transforms cannot also have a single subject filter") \
    X(10145, 400, SOURCE_INVALID_SUBJECT_FILTER, "source transform source: {err}") \
    X(10146, 400, SOURCE_INVALID_TRANSFORM_DESTINATION, "source transform: {err}") \
    X(10147, 400, SOURCE_OVERLAPPING_SUBJECT_FILTERS, "source filters can not overlap") \
    X(10148, 400, CONSUMER_ALREADY_EXISTS, "consumer already exists") \
    X(10149, 400, CONSUMER_DOES_NOT_EXIST, "consumer does not exist") \
    X(10150, 400, MIRROR_MULTIPLE_FILTERS_NOT_ALLOWED, "mirror with multiple subject transforms cannot also have a single subject filter") \
    X(10151, 400, MIRROR_INVALID_SUBJECT_FILTER, "mirror transform source: {err}") \
    X(10152, 400, MIRROR_OVERLAPPING_SUBJECT_FILTERS, "mirror subject filters can not overlap") \
    X(10153, 400, CONSUMER_INACTIVE_THRESHOLD_EXCESS, "consumer inactive threshold exceeds system limit of {limit}") \
    X(10154, 400, MIRROR_INVALID_TRANSFORM_DESTINATION, "mirror transform: {err}") \
    X(10155, 400, STREAM_TRANSFORM_INVALID_SOURCE, "stream transform source: {err}") \
    X(10156, 400, STREAM_TRANSFORM_INVALID_DESTINATION, "stream transform: {err}") \
    X(10157, 400, PEDANTIC, "pedantic mode: {err}") \
    X(10158, 409, STREAM_DUPLICATE_MESSAGE_CONFLICT, "duplicate message id is in process") \
    X(10159, 400, CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP, "Setting PriorityPolicy requires at least one PriorityGroup to be set") \
    X(10160, 400, CONSUMER_INVALID_PRIORITY_GROUP, "Provided priority group does not exist for this consumer") \
    X(10161, 400, CONSUMER_EMPTY_GROUP_NAME, "Group name cannot be an empty string") \
    X(10162, 400, CONSUMER_INVALID_GROUP_NAME, "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and may not exceed 16 characters") \
    X(10163, 503, STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_NOT_READY, "expected last sequence per subject temporarily unavailable") \
    X(10164, 400, STREAM_WRONG_LAST_SEQUENCE_CONSTANT, "wrong last sequence") \
    X(10165, 400, MESSAGE_TTL_INVALID, "invalid per-message TTL") \
    X(10166, 400, MESSAGE_TTL_DISABLED, "per-message TTL is disabled") \
    X(10167, 429, STREAM_TOO_MANY_REQUESTS, "too many requests") \
    X(10168, 400, MESSAGE_INCR_DISABLED, "message counters is disabled") \
    X(10169, 400, MESSAGE_INCR_MISSING, "message counter increment is missing") \
    X(10170, 400, MESSAGE_INCR_PAYLOAD, "message counter has payload") \
    X(10171, 400, MESSAGE_INCR_INVALID, "message counter increment is invalid") \
    X(10172, 400, MESSAGE_COUNTER_BROKEN, "message counter is broken") \
    X(10173, 400, MIRROR_WITH_COUNTERS, "stream mirrors can not also calculate counters") \
    X(10174, 400, ATOMIC_PUBLISH_DISABLED, "atomic publish is disabled") \
    X(10175, 400, ATOMIC_PUBLISH_MISSING_SEQ, "atomic publish sequence is missing") \
    X(10176, 400, ATOMIC_PUBLISH_INCOMPLETE_BATCH, "atomic publish batch is incomplete") \
    X(10177, 400, ATOMIC_PUBLISH_UNSUPPORTED_HEADER_BATCH, "atomic publish unsupported header used: {header}") \
    X(10178, 400, CONSUMER_PUSH_WITH_PRIORITY_GROUP, "priority groups can not be used with push consumers") \
    X(10179, 400, ATOMIC_PUBLISH_INVALID_BATCH_ID, "atomic publish batch ID is invalid") \
    X(10180, 412, STREAM_MIN_LAST_SEQ, "min last sequence") \
    X(10181, 400, CONSUMER_ACK_POLICY_INVALID, "consumer ack policy invalid") \
    X(10182, 400, CONSUMER_REPLAY_POLICY_INVALID, "consumer replay policy invalid") \
    X(10183, 400, CONSUMER_ACK_WAIT_NEGATIVE, "consumer ack wait needs to be positive") \
    X(10184, 400, CONSUMER_BACK_OFF_NEGATIVE, "consumer backoff needs to be positive") \
    X(10185, 412, REQUIRED_API_LEVEL, "JetStream minimum api level required") \
    X(10186, 400, MIRROR_WITH_MSG_SCHEDULES, "stream mirrors can not also schedule messages") \
    X(10187, 400, SOURCE_WITH_MSG_SCHEDULES, "stream source can not also schedule messages") \
    X(10188, 400, MESSAGE_SCHEDULES_DISABLED, "message schedules is disabled") \
    X(10189, 400, MESSAGE_SCHEDULES_PATTERN_INVALID, "message schedules pattern is invalid") \
    X(10190, 400, MESSAGE_SCHEDULES_TARGET_INVALID, "message schedules target is invalid") \
    X(10191, 400, MESSAGE_SCHEDULES_TTL_INVALID, "message schedules invalid per-message TTL") \
    X(10192, 400, MESSAGE_SCHEDULES_ROLLUP_INVALID, "message schedules invalid rollup") \
    X(10193, 400, STREAM_EXPECTED_LAST_SEQ_PER_SUBJECT_INVALID, "missing sequence for expected last sequence per subject") \
    X(10194, 500, STREAM_OFFLINE_REASON, "stream is offline: {err}") \
    X(10195, 500, CONSUMER_OFFLINE_REASON, "consumer is offline: {err}") \
    X(10196, 400, CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE, "consumer can not have priority groups when policy is none") \
    X(10197, 400, CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE, "PinnedTTL cannot be set when PriorityPolicy is none") \
    X(10198, 400, MIRROR_WITH_ATOMIC_PUBLISH, "stream mirrors can not also use atomic publishing") \
    X(10199, 400, ATOMIC_PUBLISH_TOO_LARGE_BATCH, "atomic publish batch is too large: {size}") \
    X(10200, 400, ATOMIC_PUBLISH_INVALID_BATCH_COMMIT, "atomic publish batch commit is invalid") \
    X(10201, 400, ATOMIC_PUBLISH_CONTAINS_DUPLICATE_MESSAGE, "atomic publish batch contains duplicate message id") \
    X(10202, 400, CLUSTER_SERVER_MEMBER_CHANGE_INFLIGHT, "cluster member change is in progress") \
    X(10203, 400, MESSAGE_SCHEDULES_SOURCE_INVALID, "message schedules source is invalid") \
    X(10204, 400, CONSUMER_INVALID_RESET, "invalid reset: {err}") \
    X(10205, 400, BATCH_PUBLISH_DISABLED, "batch publish is disabled") \
    X(10206, 400, BATCH_PUBLISH_INVALID_PATTERN, "batch publish pattern is invalid") \
    X(10207, 400, BATCH_PUBLISH_INVALID_BATCH_ID, "batch publish ID is invalid") \
    X(10208, 400, BATCH_PUBLISH_UNKNOWN_BATCH_ID, "batch publish ID unknown") \
    X(10209, 400, MIRROR_WITH_BATCH_PUBLISH, "stream mirrors can not also use batch publishing") \
    X(10210, 429, ATOMIC_PUBLISH_TOO_MANY_INFLIGHT, "atomic publish too many inflight") \
    X(10211, 429, BATCH_PUBLISH_TOO_MANY_INFLIGHT, "batch publish too many inflight") \
    X(10212, 400, MESSAGE_SCHEDULES_SCHEDULER_INVALID, "message schedules invalid scheduler") \
    X(10213, 400, MIRROR_DURABLE_CONSUMER_CFG_INVALID, "stream mirror consumer config is invalid") \
    X(10214, 400, MIRROR_CONSUMER_REQUIRES_ACK_FC, "stream mirror consumer requires flow control ack policy") \
    X(10215, 400, SOURCE_DURABLE_CONSUMER_CFG_INVALID, "stream source consumer config is invalid") \
    X(10216, 400, SOURCE_DURABLE_CONSUMER_DUPLICATE_DETECTED, "duplicate stream source consumer detected") \
    X(10217, 400, SOURCE_CONSUMER_REQUIRES_ACK_FC, "stream source consumer requires flow control ack policy") \
    X(10218, 400, CONSUMER_ACK_FC_REQUIRES_PUSH, "flow control ack policy requires a push based consumer") \
    X(10219, 400, CONSUMER_ACK_FC_REQUIRES_FC, "flow control ack policy requires flow control") \
    X(10220, 400, CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING, "flow control ack policy requires max ack pending") \
    X(10221, 400, CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT, "flow control ack policy requires unset ack wait") \
    X(10222, 400, CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER, "flow control ack policy requires unset max deliver") \
    X(10223, 400, MESSAGE_SCHEDULES_TIME_ZONE_INVALID, "message schedules time zone is invalid") \
    X(10224, 400, CLUSTER_RESCUE, "JetStream system rescue not applied: {err}") \
    X(10225, 400, CONSUMER_STREAM_IDENTITY_MISMATCH, "consumer's stream identity does not match: {msg}") \
    X(10226, 400, STREAM_RECONFIGURE_IN_PROGRESS, "stream reconfiguration already in progress") \
    X(10227, 400, MESSAGE_SOURCE_HDR_NOT_ALLOWED, "message stream source header is not allowed")
/* clang-format on */
#endif
