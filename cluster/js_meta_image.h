/* Meta's state as a whole, fetched from another node. */
#ifndef CLUSTER_JS_META_IMAGE_H
#define CLUSTER_JS_META_IMAGE_H
struct js;

/* Before the fetched state is switched to. */
void js_meta_image_begin(struct js *js);
/* The store has it: take it. */
int js_meta_image_adopt(struct js *js);
/* Go on with an adoption that a crash interrupted. */
int js_meta_image_start(struct js *js);
void js_meta_image_tick(struct js *js);
#endif
