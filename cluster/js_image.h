/* Catch-up of a replica by image. */
#ifndef CLUSTER_JS_IMAGE_H
#define CLUSTER_JS_IMAGE_H
#include <stdint.h>

struct group_fsm;
struct js;

void js_image_fsm(struct group_fsm *fsm);
void js_image_tick(struct js *js);
/* What js_flush_stage was given: free it, when the pass that it waits for does not end. */
void js_image_job_end(void *arg);
/* From its proposal to its being applied: images go at a pace that does not double it. */
void js_image_publish_took(struct js *js, int64_t took_ns);
#endif
