#include "tests/fuzz/stream_script.h"

static const char explicit_json[] = "{\"name\":\"c\",\"durable_name\":\"c\",\"ack_policy\":"
                                    "\"explicit\",\"max_deliver\":2}";
static const char last_json[] = "{\"name\":\"d\",\"durable_name\":\"d\",\"filter_subject\":"
                                "\"a.x1\",\"ack_policy\":\"all\",\"deliver_policy\":"
                                "\"last_per_subject\"}";
static const char config_json[] = "{\"name\":\"S\",\"subjects\":[\"a.>\"],\"max_msgs\":3}";

static void publish(struct entry_builder *b, uint8_t op, uint64_t x, uint64_t index)
{
    char text[24];
    (void)snprintf(text, sizeof text, "a.%c%llu", "xyz"[x % 3], (unsigned long long)x % 5);
    struct publish_message m = {.subject = slice_str(text), .payload = SLICE_LIT("p")};
    if ((op & 64) != 0) {
        m.options = PUBLISH_HAS(PUBLISH_MSG_ID);
        m.msg_id = slice_str(text);
    }
    if ((op & 128) != 0) {
        m.options |= PUBLISH_HAS(PUBLISH_ROLLUP) | PUBLISH_HAS(PUBLISH_EXPECT_LAST_SEQ);
        m.rollup = x % 2 == 0 ? ROLLUP_SUBJECT : ROLLUP_ALL;
        m.expect_last_seq = x / 16;
    }
    if (x == 255) {
        m = (struct publish_message){.refused_code = 10077, .refused_text = SLICE_LIT("why")};
    }
    entry_publish(b, 1, op & 32 ? 9 : 0, op & 32 ? index : 0, &m);
}

bool script_entry(struct reader *r, struct entry_builder *b, uint64_t index)
{
    uint8_t op = reader_u8(r);
    uint64_t x = reader_u8(r);
    struct progress_item p = {
        .kind = 1 + op / 8 % 8, .seq = x % 16, .count = 1, .node = 1, .text = SLICE_LIT("i")};
    bool is_planned = true;
    entry_begin(b, ENTRY_MACHINE_VERSION);
    switch (op % 8) {
    case 0:
    case 1:
    case 2:
        publish(b, op, x, index);
        break;
    case 3:
        entry_consumer_set(b, x % 3, op & 64 ? SLICE_LIT("c") : SLICE_LIT("d"),
                           slice_str(op & 32 ? explicit_json : last_json));
        if (x >= 240) {
            entry_consumer_delete(b, 1, op & 128 ? SLICE_LIT("c") : SLICE_LIT("d"));
        }
        break;
    case 4:
    case 5:
        is_planned = p.kind != PROGRESS_DELIVER;
        p.delay_ns = is_planned ? (int64_t)(x % 4) * 1000 : (op & 64) != 0;
        p.consumer_seq = !is_planned && p.delay_ns != 0 ? x / 16 : 0;
        p.count = (op & 128) != 0 ? 1 + x / 16 : 1;
        entry_progress(b, 1 + x % 2, &p);
        break;
    case 6:
        if (x >= 200) {
            entry_config(b, 1, slice_str(config_json), x);
        } else {
            entry_purge(b, 0, op & 64 ? SLICE_LIT("a.x1") : SLICE_EMPTY, 0, x % 4);
            entry_delete_msg(b, 0, x % 16);
        }
        break;
    default:
        if (op & 64) {
            entry_job_step(b);
            entry_clock(b);
            entry_digest(b);
            if (x >= 128) {
                entry_time_sure(b, (int64_t)(x % 8) * 1000);
                entry_time_unsure(b, (int64_t)(x % 16) * 1000);
            }
        } else if (x >= 250) {
            entry_seal(b, 1);
        } else {
            entry_lead(b, 1 + x % 2, ENTRY_MACHINE_VERSION);
        }
        break;
    }
    return is_planned;
}
