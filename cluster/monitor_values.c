#include <stdio.h>
#include <time.h>

#include "cluster/monitor.h"

#define NS_PER_S 1000000000LL

json_t *monitor_time_json(int64_t ns)
{
    time_t s = (time_t)(ns / NS_PER_S);
    struct tm tm;
    gmtime_r(&s, &tm);
    char day[32], text[64];
    strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text, sizeof text, "%s.%09lldZ", day, (long long)(ns % NS_PER_S));
    return json_string(text);
}

json_t *monitor_duration_json(int64_t ns)
{
    char text[64];
    if (ns < 1000) {
        snprintf(text, sizeof text, "%lldns", (long long)ns);
    } else if (ns < 1000000) {
        snprintf(text, sizeof text, "%.10g\xc2\xb5s", (double)ns / 1e3);
    } else if (ns < NS_PER_S) {
        snprintf(text, sizeof text, "%.10gms", (double)ns / 1e6);
    } else {
        snprintf(text, sizeof text, "%.10gs", (double)ns / 1e9);
    }
    return json_string(text);
}

json_t *monitor_uptime_json(int64_t ns)
{
    long long s = ns / NS_PER_S;
    long long days = s / 86400, hours = s / 3600 % 24, minutes = s / 60 % 60, seconds = s % 60;
    long long years = days / 365;
    days %= 365;
    char text[96];
    if (years > 0) {
        snprintf(text, sizeof text, "%lldy%lldd%lldh%lldm%llds", years, days, hours, minutes,
                 seconds);
    } else if (days > 0) {
        snprintf(text, sizeof text, "%lldd%lldh%lldm%llds", days, hours, minutes, seconds);
    } else if (hours > 0) {
        snprintf(text, sizeof text, "%lldh%lldm%llds", hours, minutes, seconds);
    } else if (minutes > 0) {
        snprintf(text, sizeof text, "%lldm%llds", minutes, seconds);
    } else {
        snprintf(text, sizeof text, "%llds", seconds);
    }
    return json_string(text);
}

json_t *monitor_text_json(struct slice s)
{
    json_t *j = json_stringn((const char *)s.ptr, s.len);
    return j == NULL ? json_string("?") : j; /* Not UTF-8. */
}

json_t *monitor_sub_json(struct slice subject, struct slice queue, struct slice sid, uint64_t msgs,
                         uint64_t max, uint64_t cid)
{
    json_t *j = json_object();
    json_object_set_new(j, "subject", monitor_text_json(subject));
    if (queue.len > 0) {
        json_object_set_new(j, "qgroup", monitor_text_json(queue));
    }
    json_object_set_new(j, "sid", monitor_text_json(sid));
    json_object_set_new(j, "msgs", json_integer((json_int_t)msgs));
    if (max > 0) {
        json_object_set_new(j, "max", json_integer((json_int_t)max));
    }
    json_object_set_new(j, "cid", json_integer((json_int_t)cid));
    return j;
}
