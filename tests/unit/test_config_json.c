#include <criterion/criterion.h>

#include "broker/config_fields.h"
#include "broker/consumer_config.h"
#include "broker/stream_config.h"
#include "storage/base/err.h"

Test(stream_config, survives_a_round_trip_through_its_json)
{
    struct stream_config c;
    struct stream_config d;
    cr_assert_eq(
        stream_config_parse(&c, SLICE_LIT("{\"name\":\"S\",\"subjects\":[\"a.>\",\"b\"],"
                                          "\"max_msgs\":7,\"discard\":\"new\",\"storage\":"
                                          "\"memory\",\"metadata\":{\"z\":\"1\",\"a\":\"<\"},"
                                          "\"compression\":\"none\",\"consumer_limits\":{}}")),
        0);
    struct buf b = BUF_EMPTY;
    stream_config_print(&c, &b);
    cr_assert_eq(stream_config_parse(&d, buf_slice(&b)), 0, "%.*s", SLICE_ARG(buf_slice(&b)));
    cr_expect(stream_config_eq(&c, &d));
    cr_expect_eq(d.max_msgs, 7);
    cr_expect_eq(d.discard, DISCARD_NEW);
    cr_expect_eq(d.storage, STORAGE_MEMORY);
    cr_expect_str_eq(d.metadata[0].key, "a");
    struct stream_config e;
    stream_config_copy(&e, &d);
    stream_config_close(&d);
    cr_expect(stream_config_eq(&c, &e));
    e.max_msgs = 8;
    cr_expect_not(stream_config_eq(&c, &e));
    stream_config_close(&c);
    stream_config_close(&e);
    buf_close(&b);
}

Test(stream_config, a_placement_is_there_or_not)
{
    static const char text[] =
        "{\"name\":\"S\",\"placement\":{\"cluster\":\"C\",\"tags\":[\"a\",\"!B\"]}}";
    struct stream_config c, d, e;
    struct buf b = BUF_EMPTY;
    cr_assert_eq(stream_config_parse(&c, slice_str(text)), 0);
    stream_config_print(&c, &b);
    cr_assert_eq(stream_config_parse(&d, buf_slice(&b)), 0);
    buf_append_u8(&b, 0);
    cr_expect_not_null(
        strstr((char *)b.ptr, "\"placement\":{\"cluster\":\"C\",\"tags\":[\"a\",\"!B\"]}"));
    cr_expect(stream_config_eq(&c, &d));
    stream_config_copy(&e, &d);
    stream_config_close(&d);
    cr_expect(placement_eq(&c.placement, &e.placement));
    cr_assert_eq(stream_config_parse(&d, SLICE_LIT("{\"name\":\"S\",\"placement\":{}}")), 0);
    cr_expect(placement_is_empty(&d.placement));
    cr_expect_not(stream_config_eq(&c, &d));
    buf_clear(&b);
    stream_config_print(&d, &b);
    buf_append_u8(&b, 0);
    cr_expect_null(strstr((char *)b.ptr, "placement"));
    stream_config_close(&c);
    stream_config_close(&d);
    stream_config_close(&e);
    buf_close(&b);
}

Test(stream_config, says_which_builds_can_read_it)
{
    static const struct {
        const char *text;
        const char *feature;
        unsigned version;
    } cases[] = {
        {"{\"name\":\"S\"}", NULL, 1},
        {"{\"name\":\"S\",\"consumer_limits\":{}}", NULL, 1},
        {"{\"name\":\"S\",\"placement\":{\"cluster\":\"C\"}}", "placement", 2},
        {"{\"name\":\"S\",\"placement\":{\"cluster\":\"C\"},"
         "\"consumer_limits\":{\"max_ack_pending\":1}}",
         "consumer_limits", 3},
        {"{\"name\":\"S\",\"subject_transform\":{}}", NULL, 1},
        {"{\"name\":\"S\",\"subject_transform\":{\"src\":\"a.*\",\"dest\":\"b.$1\"}}",
         "subject_transform", 4},
        {"{\"name\":\"S\",\"republish\":{\"src\":\">\",\"dest\":\"b.>\",\"headers_only\":true}}",
         "republish", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stream_config c, d;
        struct buf b = BUF_EMPTY;
        const char *feature;
        cr_assert_eq(stream_config_parse(&c, slice_str(cases[i].text)), 0, "%s", cases[i].text);
        cr_expect_eq(stream_config_version(&c, &feature), cases[i].version, "%s", cases[i].text);
        cr_expect(feature == cases[i].feature || strcmp(feature, cases[i].feature) == 0);
        stream_config_print(&c, &b);
        cr_assert_eq(stream_config_parse(&d, buf_slice(&b)), 0);
        cr_expect(stream_config_eq(&c, &d), "%s", cases[i].text);
        stream_config_close(&c);
        stream_config_close(&d);
        buf_close(&b);
    }
}

Test(stream_config, what_is_unknown_or_later_is_refused)
{
    struct stream_config c;
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":\"S\",\"nmae\":1}")), ERR_INVALID);
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":\"S\",\"mirror\":{\"name\":\"T\"}}")),
                 ERR_INVALID);
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":\"S\",\"max_msgs\":\"7\"}")),
                 ERR_INVALID);
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":\"S\",\"num_replicas\":4294967296}")),
                 ERR_INVALID);
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("[]")), ERR_INVALID);
    cr_expect_eq(stream_config_parse(&c, SLICE_LIT("{\"name\":")), ERR_INVALID);
}

Test(fields, errors_read_as_those_of_the_reference)
{
    struct stream_config c;
    struct field_error error;
    stream_config_init(&c);
    json_t *v = json_parse(SLICE_LIT("{\"max_msgs\":\"x\"}"), &error);
    cr_expect_eq(fields_read(stream_config_fields, stream_config_fields_count, v, "StreamConfig",
                             &c, &error),
                 ERR_INVALID);
    cr_expect_str_eq(error.text, "json: cannot unmarshal string into Go struct field "
                                 "StreamConfig.max_msgs of type int64");
    json_decref(v);
    v = json_parse(SLICE_LIT("{\"foo\":1}"), &error);
    fields_read(stream_config_fields, stream_config_fields_count, v, "StreamConfig", &c, &error);
    cr_expect_str_eq(error.text, "json: unknown field \"foo\"");
    json_decref(v);
    stream_config_close(&c);
}

/* As the reference: null is no word, and a feature that is asked for by a wrong type is bad JSON.
 */
Test(fields, words_are_not_null_and_what_is_not_there_yet_has_its_type)
{
    static const struct {
        const char *json, *error;
    } cases[] = {
        {"{\"retention\":null}", "can not unmarshal \"null\""},
        {"{\"storage\":null}", "can not unmarshal \"null\""},
        {"{\"compression\":null}", "unknown compression"},
        {"{\"mirror\":[]}", "json: cannot unmarshal array into Go struct field "
                            "StreamConfig.mirror of type object"},
        {"{\"sources\":{}}", "json: cannot unmarshal object into Go struct field "
                             "StreamConfig.sources of type array"},
        {"{\"allow_atomic\":0}", "json: cannot unmarshal number into Go struct field "
                                 "StreamConfig.allow_atomic of type bool"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct stream_config c;
        struct field_error error;
        stream_config_init(&c);
        json_t *v = json_parse(slice_str(cases[i].json), &error);
        cr_expect_eq(fields_read(stream_config_fields, stream_config_fields_count, v,
                                 "StreamConfig", &c, &error),
                     ERR_INVALID);
        cr_expect_str_eq(error.text, cases[i].error);
        json_decref(v);
        stream_config_close(&c);
    }
}

Test(fields, what_is_not_there_yet_may_be_asked_for_by_its_default_only)
{
    struct consumer_config c;
    consumer_config_init(&c);
    const char *fine = "{\"name\":\"C\",\"pause_until\":\"0001-01-01T00:00:00Z\",\"direct\":false}";
    cr_expect_eq(consumer_config_parse(&c, slice_str(fine)), 0);
    consumer_config_close(&c);
    consumer_config_init(&c);
    const char *paused = "{\"name\":\"C\",\"pause_until\":\"2030-01-01T00:00:00Z\"}";
    cr_expect_eq(consumer_config_parse(&c, slice_str(paused)), ERR_INVALID);
    consumer_config_close(&c);
}

Test(consumer_config, the_single_filter_stays_single_and_is_in_the_list)
{
    struct consumer_config c;
    struct buf b = BUF_EMPTY;
    cr_assert_eq(
        consumer_config_parse(&c, SLICE_LIT("{\"name\":\"C\",\"filter_subject\":\"a.*\","
                                            "\"ack_policy\":\"explicit\",\"backoff\":[1,2],"
                                            "\"opt_start_time\":\"2026-01-02T03:04:05.6Z\"}")),
        0);
    cr_expect_eq(c.filter_subjects_count, 1);
    cr_expect_str_eq(c.filter_subjects[0], "a.*");
    consumer_config_print(&c, &b);
    buf_append_u8(&b, 0);
    cr_expect_not_null(strstr((char *)b.ptr, "\"filter_subject\":\"a.*\""));
    cr_expect_null(strstr((char *)b.ptr, "filter_subjects"));
    cr_expect_not_null(strstr((char *)b.ptr, "\"opt_start_time\":\"2026-01-02T03:04:05.6Z\""));
    consumer_config_close(&c);
    buf_close(&b);
}

static void expect_time(const char *text, int64_t want)
{
    int64_t t = 0;
    cr_expect_eq(json_parse_time(slice_str(text), &t), 0, "%s", text);
    cr_expect_eq(t, want, "%s gave %lld", text, (long long)t);
}

Test(json_text, times_of_all_zones_and_of_before_1970)
{
    expect_time("1970-01-01T00:00:00Z", 0);
    expect_time("1969-12-31T23:59:59.999999999Z", -1);
    expect_time("2026-11-24T04:00:00.5+02:00", 1795485600500000000);
    expect_time("2000-02-29T00:00:00Z", 951782400000000000);
    expect_time("0001-01-01T00:00:00Z", INT64_MIN);
    int64_t t;
    static const char *const bad[] = {"",
                                      "2026-13-01T00:00:00Z",
                                      "2026-01-01",
                                      "1500-01-01T00:00:00Z",
                                      "2026-01-01T00:00:00",
                                      "2026-01-01T00:00:00.Z"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(json_parse_time(slice_str(bad[i]), &t), ERR_INVALID, "%s", bad[i]);
    }
    struct buf b = BUF_EMPTY;
    json_print_time(&b, -1);
    cr_expect(slice_eq_str(buf_slice(&b), "1969-12-31T23:59:59.999999999Z"));
    buf_clear(&b);
    json_print_time(&b, 1795485600500000000);
    cr_expect(slice_eq_str(buf_slice(&b), "2026-11-24T02:00:00.5Z"));
    buf_close(&b);
}

Test(json_text, base64_pads_and_strings_escape)
{
    struct buf b = BUF_EMPTY;
    json_print_base64(&b, SLICE_LIT("a"));
    json_print_base64(&b, SLICE_LIT("ab"));
    json_print_base64(&b, SLICE_LIT("abc"));
    cr_expect(slice_eq_str(buf_slice(&b), "YQ==YWI=YWJj"));
    buf_clear(&b);
    json_print_string(&b, SLICE_LIT("a\"\\\n<\x01z"));
    cr_expect(slice_eq_str(buf_slice(&b), "\"a\\\"\\\\\\n\\u003c\\u0001z\""));
    buf_close(&b);
}

/* The rest of the name was dropped, and another stream or subject meant. */
Test(fields, a_string_with_a_nul_is_refused)
{
    static const char *const bodies[] = {
        "{\"name\":\"S\\u0000x\"}",
        "{\"name\":\"S\",\"subjects\":[\"a\",\"b\\u0000c\"]}",
        "{\"name\":\"S\",\"retention\":\"limits\\u0000\"}",
        "{\"name\":\"S\",\"metadata\":{\"k\":\"v\\u0000\"}}",
    };
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct stream_config c;
        cr_expect_eq(stream_config_parse(&c, slice_str(bodies[i])), ERR_INVALID, "%s", bodies[i]);
    }
}
