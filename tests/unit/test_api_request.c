/* Requests and the answers that nats-server v2.15.2 gave to them. */
#include <criterion/criterion.h>

#include "broker/api_reply.h"
#include "broker/api_request.h"
#include "storage/base/err.h"

static const struct api_limits standalone = {0};
static const struct api_limits clustered = {.is_clustered = true};

struct refusal {
    const char *body;
    int err_code;
    const char *text;
};

Test(api_request, stream_creation_is_refused_in_the_words_of_the_reference)
{
    static const struct refusal cases[] = {
        {"", 10056, "stream name in subject does not match request"},
        {"{\"name\":\"B\"}", 10056, "stream name in subject does not match request"},
        {"{\"name\":\"A\",\"foo\":1}", 10025, "invalid JSON: json: unknown field \"foo\""},
        {"{\"name\":\"A\",\"max_msgs\":\"x\"}", 10025,
         "invalid JSON: json: cannot unmarshal string into Go struct field "
         "StreamConfigRequest.StreamConfig.max_msgs of type int64"},
        {"[]", 10025, NULL},
        {"{\"name\":\"A\"", 10025, NULL},
        {"{\"name\":\"A\",\"num_replicas\":-1}", 10133, "replicas count cannot be negative"},
        {"{\"name\":\"A\",\"num_replicas\":6}", 10052, "maximum replicas is 5"},
        {"{\"name\":\"A\",\"num_replicas\":3}", 10074,
         "replicas > 1 not supported in non-clustered mode"},
        {"{\"name\":\"A\",\"max_age\":-1}", 10052, "max age can not be negative"},
        {"{\"name\":\"A\",\"max_age\":5}", 10052, "max age needs to be >= 100ms"},
        {"{\"name\":\"A\",\"duplicate_window\":-1}", 10052,
         "duplicates window can not be negative"},
        {"{\"name\":\"A\",\"duplicate_window\":5}", 10052,
         "duplicates window needs to be >= 100ms"},
        {"{\"name\":\"A\",\"max_age\":1000000000,\"duplicate_window\":2000000000}", 10052,
         "duplicates window can not be larger then max age"},
        {"{\"name\":\"A\",\"deny_purge\":true,\"allow_rollup_hdrs\":true}", 10052,
         "roll-ups require the purge permission"},
        {"{\"name\":\"A\",\"discard_new_per_subject\":true}", 10052,
         "discard new per subject requires discard new policy to be set"},
        {"{\"name\":\"A\",\"discard\":\"new\",\"discard_new_per_subject\":true}", 10052,
         "discard new per subject requires max msgs per subject > 0"},
        {"{\"name\":\"A\",\"sealed\":true}", 10052,
         "stream configuration for create can not be sealed"},
        {"{\"name\":\"A\",\"mirror_direct\":true}", 10052,
         "stream has no mirror but does have mirror direct"},
        {"{\"name\":\"A\",\"subjects\":[\"a..b\"]}", 10052, "invalid subject"},
        {"{\"name\":\"A\",\"subjects\":[\"\"]}", 10052, "invalid subject"},
        {"{\"name\":\"A\",\"subjects\":[\"a.*\",\"a.b\"]}", 10052,
         "subject \"a.*\" overlaps with \"a.b\""},
        {"{\"name\":\"A\",\"subjects\":[\">\"]}", 10052,
         "capturing all subjects requires no-ack to be true"},
        {"{\"name\":\"A\",\"subjects\":[\"*.x\"]}", 10052,
         "subjects that overlap with jetstream api require no-ack to be true"},
        {"{\"name\":\"A\",\"subjects\":[\"$SYS.>\"]}", 10052,
         "subjects that overlap with system api require no-ack to be true"},
        {"{\"name\":\"A\",\"republish\":{\"dest\":\"A\"}}", 10052,
         "stream configuration for republish destination forms a cycle"},
        {"{\"name\":\"A\",\"republish\":{\"src\":\"a\",\"dest\":\"$1\"}}", 10052,
         "stream configuration for republish with transform from 'a' to '$1' not valid"},
        {"{\"name\":\"A\",\"pedantic\":true,\"republish\":{\"dest\":\"b.>\"}}", 10157,
         "pedantic mode: republish source can not be empty"},
        {"{\"name\":\"A\",\"subject_transform\":{\"src\":\"a..b\",\"dest\":\"c\"}}", 10155,
         "stream transform source: invalid subject a..b"},
        {"{\"name\":\"A\",\"subject_transform\":{\"src\":\"a\",\"dest\":\"{{nope(1)}}\"}}", 10156,
         "stream transform: invalid mapping destination: unknown function in {{nope(1)}}"},
        {"{\"name\":\"A\",\"retention\":\"interest\"}", 10052, NULL},
        {"{\"name\":\"A\",\"mirror\":{\"name\":\"B\"}}", 10052, NULL},
        {"{\"name\":\"A\",\"placement\":{\"preferred\":\"n\"}}", 10052,
         "preferred server not permitted in placement"},
        {"{\"name\":\"A\",\"placement\":{\"x\":1}}", 10025,
         "invalid JSON: json: unknown field \"x\""},
        {"{\"name\":\"A\",\"max_msgs\":9223372036854775808}", 10025, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stream_config c;
        struct api_error e = {0};
        int rv = api_read_stream_config(slice_str(cases[i].body), SLICE_LIT("A"), &standalone,
                                        false, &c, &e);
        cr_assert_eq(rv, ERR_INVALID, "%s", cases[i].body);
        cr_expect_eq(e.err_code, cases[i].err_code, "%s: %d", cases[i].body, e.err_code);
        if (cases[i].text != NULL) {
            cr_expect_str_eq(e.text, cases[i].text);
        }
    }
}

Test(api_request, a_stream_is_normalised_as_the_reference_does)
{
    struct stream_config c;
    struct api_error e = {0};
    cr_assert_eq(api_read_stream_config(SLICE_LIT("{\"NAME\":\"A\",\"max_msgs\":-7,\"max_bytes\":0,"
                                                  "\"max_age\":1000000000,\"metadata\":null}"),
                                        SLICE_LIT("A"), &clustered, false, &c, &e),
                 0, "%s", e.text);
    cr_expect_eq(c.max_msgs, -1);
    cr_expect_eq(c.max_bytes, -1);
    cr_expect_eq(c.replicas_count, 1);
    cr_expect_eq(c.duplicate_window_ns, 1000000000);
    cr_expect_eq(c.subjects_count, 1);
    cr_expect_str_eq(c.subjects[0], "A");
    stream_config_close(&c);
}

Test(api_request, a_stream_update_cannot_take_promises_back)
{
    struct stream_config old;
    struct stream_config wanted;
    struct api_error e = {0};
    stream_config_parse(&old,
                        SLICE_LIT("{\"name\":\"A\",\"deny_delete\":true,\"num_replicas\":1}"));
    stream_config_copy(&wanted, &old);
    cr_expect_eq(api_check_stream_update(&old, &wanted, &e), 0);
    wanted.deny_delete = false;
    cr_expect_eq(api_check_stream_update(&old, &wanted, &e), ERR_INVALID);
    cr_expect_str_eq(e.text, "stream configuration update can not cancel deny message deletes");
    wanted.deny_delete = true;
    wanted.storage = STORAGE_MEMORY;
    cr_expect_eq(api_check_stream_update(&old, &wanted, &e), ERR_INVALID);
    cr_expect_str_eq(e.text, "stream configuration update can not change storage type");
    stream_config_close(&old);
    stream_config_close(&wanted);
}

static int read_consumer(const char *config, const struct api_consumer_subject *subject,
                         struct consumer_config *c, struct api_error *e)
{
    struct stream_config s;
    enum consumer_action action;
    struct buf body = BUF_EMPTY;
    stream_config_parse(&s, SLICE_LIT("{\"name\":\"S\",\"num_replicas\":1}"));
    buf_printf(&body, "{\"stream_name\":\"S\",\"config\":%s}", config);
    int rv = api_read_consumer_config(buf_slice(&body), subject, &standalone, &s, c, &action, e);
    buf_close(&body);
    stream_config_close(&s);
    return rv;
}

Test(api_request, consumer_creation_is_refused_in_the_words_of_the_reference)
{
    static const struct refusal cases[] = {
        {"{\"foo\":1}", 10025, "invalid JSON: json: unknown field \"foo\""},
        {"{\"durable_name\":\"e\"}", 10017,
         "consumer name in subject does not match durable name in request"},
        {"{\"filter_subjects\":[\"s.a\",\"s.*\"]}", 10138,
         "consumer subject filters cannot overlap"},
        {"{\"filter_subjects\":[\"s.a\",\"\"]}", 10139,
         "consumer filter in FilterSubjects cannot be empty"},
        {"{\"filter_subject\":\"s.a\",\"filter_subjects\":[\"s.b\"]}", 10136, NULL},
        {"{\"filter_subject\":\"s..a\"}", 10052, "invalid subject"},
        {"{\"ack_wait\":-1}", 10183, "consumer ack wait needs to be positive"},
        {"{\"backoff\":[-1]}", 10184, "consumer backoff needs to be positive"},
        {"{\"backoff\":[1,2],\"max_deliver\":1}", 10116, NULL},
        {"{\"opt_start_seq\":5}", 10094,
         "consumer delivery policy is deliver all, but optional start sequence is also set"},
        {"{\"deliver_policy\":\"by_start_sequence\"}", 10094,
         "consumer delivery policy is deliver by start sequence, but optional start sequence is "
         "not "
         "set"},
        {"{\"deliver_policy\":\"last_per_subject\"}", 10094,
         "consumer delivery policy is deliver last per subject, but optional filter subject is not "
         "set"},
        {"{\"rate_limit_bps\":3}", 10086, "consumer in pull mode can not have rate limit set"},
        {"{\"flow_control\":true}", 10089, "consumer flow control requires a push based consumer"},
        {"{\"idle_heartbeat\":1000000000}", 10088, NULL},
        {"{\"max_expires\":5}", 10115, "consumer max request expires needs to be >= 1ms"},
        {"{\"sample_freq\":\"x\"}", 10095,
         "failed to parse consumer sampling configuration: strconv.Atoi: parsing \"x\": invalid "
         "syntax"},
        {"{\"num_replicas\":-1}", 10133, "replicas count cannot be negative"},
        {"{\"num_replicas\":2}", 10074, "replicas > 1 not supported in non-clustered mode"},
        {"{\"deliver_subject\":\"x.*\"}", 10079, NULL},
        {"{\"deliver_subject\":\"x..y\"}", 10112, NULL},
        {"{\"deliver_subject\":\"x\",\"max_waiting\":1}", 10080, NULL},
        {"{\"deliver_subject\":\"x\",\"max_ack_pending\":1}", 10082, NULL},
        {"{\"deliver_subject\":\"x\",\"idle_heartbeat\":99999999}", 10083, NULL},
        {"{\"deliver_subject\":\"x\",\"flow_control\":true}", 10108, NULL},
        {"{\"pause_until\":\"2030-01-01T00:00:00Z\"}", 10052, NULL},
    };
    struct api_consumer_subject subject = {SLICE_LIT("S"), SLICE_LIT("d"), SLICE_EMPTY, false};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct consumer_config c;
        struct api_error e = {0};
        cr_assert_eq(read_consumer(cases[i].body, &subject, &c, &e), ERR_INVALID, "%s",
                     cases[i].body);
        cr_expect_eq(e.err_code, cases[i].err_code, "%s: %d %s", cases[i].body, e.err_code, e.text);
        if (cases[i].text != NULL) {
            cr_expect_str_eq(e.text, cases[i].text);
        }
    }
}

Test(api_request, a_stream_says_what_its_consumers_take_and_may_take_at_most)
{
    static const struct {
        const char *body;
        int err_code;
        int64_t max_ack_pending;
        int64_t inactive_ns;
    } cases[] = {
        {"{}", 0, 50, 60000000000},
        {"{\"inactive_threshold\":-1}", 0, 50, 60000000000},
        {"{\"ack_policy\":\"none\"}", 0, 50, 60000000000},
        {"{\"max_ack_pending\":-1,\"inactive_threshold\":1}", 0, -1, 1},
        {"{\"max_ack_pending\":50,\"inactive_threshold\":60000000000}", 0, 50, 60000000000},
        {"{\"max_ack_pending\":51}", 10121, 0, 0},
        {"{\"ack_policy\":\"none\",\"max_ack_pending\":51}", 10121, 0, 0},
        {"{\"inactive_threshold\":60000000001}", 10153, 0, 0},
        {"{\"inactive_threshold\":60000000001,\"max_ack_pending\":51}", 10121, 0, 0},
        {"{\"inactive_threshold\":60000000001,\"rate_limit_bps\":3}", 10086, 0, 0},
    };
    struct api_consumer_subject subject = {SLICE_LIT("S"), SLICE_LIT("d"), SLICE_EMPTY, false};
    struct stream_config stream;
    stream_config_init(&stream);
    stream.consumer_limits = (struct consumer_limits){60000000000, 50};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf b = BUF_EMPTY;
        struct consumer_config c;
        enum consumer_action action;
        struct api_error e = {0};
        buf_printf(&b, "{\"stream_name\":\"S\",\"config\":%s}", cases[i].body);
        int rv = api_read_consumer_config(buf_slice(&b), &subject, &standalone, &stream, &c,
                                          &action, &e);
        cr_expect_eq(e.err_code, cases[i].err_code, "%s: %s", cases[i].body, e.text);
        if (rv == 0) {
            cr_expect_eq(c.max_ack_pending, cases[i].max_ack_pending, "%s", cases[i].body);
            cr_expect_eq(c.inactive_threshold_ns, cases[i].inactive_ns, "%s", cases[i].body);
            cr_expect_not(api_exceeds_limits(&c, &stream.consumer_limits));
            cr_expect_eq(api_exceeds_limits(&c, &(struct consumer_limits){0, 49}),
                         c.max_ack_pending == 50);
            consumer_config_close(&c);
        }
        buf_close(&b);
    }
    stream_config_close(&stream);
}

Test(api_request, the_subject_forms_of_consumers_rule_names_and_filters)
{
    struct consumer_config c;
    struct api_error e = {0};
    struct api_consumer_subject durable = {SLICE_LIT("S"), SLICE_LIT("d"), SLICE_EMPTY, true};
    cr_expect_eq(read_consumer("{}", &durable, &c, &e), ERR_INVALID);
    cr_expect_eq(e.err_code, 10018);
    struct api_consumer_subject unnamed = {SLICE_LIT("S"), SLICE_EMPTY, SLICE_EMPTY, false};
    cr_expect_eq(read_consumer("{\"durable_name\":\"d\"}", &unnamed, &c, &e), ERR_INVALID);
    cr_expect_eq(e.err_code, 10020);
    struct api_consumer_subject filtered = {SLICE_LIT("S"), SLICE_LIT("q"), SLICE_LIT("s.a"),
                                            false};
    cr_expect_eq(read_consumer("{\"filter_subjects\":[\"s.a\"]}", &filtered, &c, &e), ERR_INVALID);
    cr_expect_eq(e.err_code, 10137);
    cr_expect_eq(read_consumer("{\"filter_subject\":\"s.b\"}", &filtered, &c, &e), ERR_INVALID);
    cr_expect_eq(e.err_code, 10131);
    cr_assert_eq(read_consumer("{\"name\":\"zz\",\"ack_policy\":\"explicit\",\"filter_subject\":"
                               "\"s.a\"}",
                               &filtered, &c, &e),
                 0);
    cr_expect_str_eq(c.name, "q");
    cr_expect_eq(c.ack_wait_ns, 30000000000);
    cr_expect_eq(c.max_ack_pending, 1000);
    cr_expect_eq(c.max_waiting, 512);
    cr_expect_eq(c.inactive_threshold_ns, 0);
    struct consumer_config old = {.durable_name = "q"};
    api_default_inactive(&c, &old);
    cr_expect_eq(c.inactive_threshold_ns, 0, "what was durable stays until it is deleted");
    api_default_inactive(&c, NULL);
    cr_expect_eq(c.inactive_threshold_ns, 5000000000);
    consumer_config_close(&c);
}

Test(api_request, small_requests_are_read_and_checked)
{
    struct api_error e = {0};
    struct api_purge p;
    cr_expect_eq(api_read_purge(SLICE_LIT("{\"seq\":1,\"keep\":1}"), &p, &e), ERR_INVALID);
    cr_expect_eq(e.err_code, 10003);
    cr_assert_eq(api_read_purge(SLICE_LIT("{\"filter\":\"a\",\"keep\":1}"), &p, &e), 0);
    cr_expect_str_eq(p.filter, "a");
    api_purge_close(&p);
    struct api_paging g;
    cr_assert_eq(
        api_read_paging(SLICE_LIT("{\"subject\":\"b\",\"offset\":-3}"), API_PAGING_STREAMS, &g, &e),
        0);
    cr_expect_eq(g.offset, 0);
    api_paging_close(&g);
    cr_expect_eq(api_read_paging(SLICE_LIT("{\"x\":1}"), API_PAGING_STREAM_INFO, &g, &e),
                 ERR_INVALID);
    cr_expect_eq(e.err_code, 10025);
    struct api_msg_get m;
    cr_assert_eq(api_read_msg_get(SLICE_LIT("{\"last_by_subj\":\"\"}"), &m, &e), 0);
    cr_expect(m.is_none);
    api_msg_get_close(&m);
    cr_expect_eq(api_read_msg_get(SLICE_LIT("{\"seq\":1,\"last_by_subj\":\"a\"}"), &m, &e),
                 ERR_INVALID);
    cr_expect_eq(e.err_code, 10003);
    cr_assert_eq(api_read_msg_get(SLICE_LIT("{\"next_by_subj\":\"a.*\",\"seq\":7}"), &m, &e), 0);
    cr_expect_eq(m.seq, 7);
    api_msg_get_close(&m);
    cr_expect(api_is_empty_body(SLICE_LIT("")));
    cr_expect(api_is_empty_body(SLICE_LIT(" {} ")));
    cr_expect_not(api_is_empty_body(SLICE_LIT("{\"x\":1}")));
}

Test(api_request, a_step_down_says_where_to)
{
    struct api_error e = {0};
    struct placement s;
    static const char *const anywhere[] = {
        "", "  ", "{}", "nonsense", "{\"placement\":null}", "null", "{\"placement\":{}}"};
    for (size_t i = 0; i < sizeof anywhere / sizeof anywhere[0]; i++) {
        cr_assert_eq(api_read_stepdown(slice_str(anywhere[i]), &s, &e), 0, "%s", anywhere[i]);
        cr_expect_null(s.preferred);
        cr_expect_null(s.cluster);
        cr_expect_eq(s.tags_count, 0);
        placement_close(&s);
    }
    cr_assert_eq(
        api_read_stepdown(SLICE_LIT("{\"Placement\":{\"preferred\":\"n1\",\"cluster\":\"C\","
                                    "\"tags\":[\"a\",\"!b\"]}}"),
                          &s, &e),
        0);
    cr_expect_str_eq(s.preferred, "n1");
    cr_expect_str_eq(s.cluster, "C");
    cr_assert_eq(s.tags_count, 2);
    cr_expect_str_eq(s.tags[1], "!b");
    placement_close(&s);
    static const char *const wrong[] = {"{bad",
                                        "[]",
                                        "{\"x\":1}",
                                        "{\"placement\":{\"x\":1}}",
                                        "{\"placement\":\"x\"}",
                                        "{\"placement\":{\"tags\":\"x\"}}"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        cr_expect_eq(api_read_stepdown(slice_str(wrong[i]), &s, &e), ERR_INVALID, "%s", wrong[i]);
        cr_expect_eq(e.err_code, 10025);
    }
}

Test(api_reply, acks_and_errors_have_the_forms_clients_parse)
{
    struct buf b = BUF_EMPTY;
    struct api_error e;
    api_puback(&b, "S", 18446744073709551615u, true);
    cr_expect(slice_eq_str(buf_slice(&b),
                           "{\"stream\":\"S\",\"seq\":18446744073709551615,\"duplicate\":true}"));
    buf_clear(&b);
    api_error_set(&e, API_ERROR_STREAM_WRONG_LAST_SEQUENCE, "%d", 7);
    api_puback_error(&b, "S", &e);
    cr_expect(slice_eq_str(
        buf_slice(&b), "{\"error\":{\"code\":400,\"err_code\":10071,\"description\":\"wrong last "
                       "sequence: 7\"},\"stream\":\"S\",\"seq\":0}"));
    buf_clear(&b);
    api_reply_success(&b, "stream_delete_response");
    cr_expect(slice_eq_str(
        buf_slice(&b),
        "{\"type\":\"io.nats.jetstream.api.v1.stream_delete_response\",\"success\":true}"));
    buf_close(&b);
}
