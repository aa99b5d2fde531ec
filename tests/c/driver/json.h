/* JSON as the driver needs it: values live in an arena and go with it. */
#ifndef DRIVER_JSON_H
#define DRIVER_JSON_H

#include <stddef.h>

/* Memory that is freed all at once. */
typedef struct arena {
    struct block *blocks;
} arena;

void *arena_take(arena *arena, size_t size);
char *arena_text(arena *arena, const char *text, size_t len);
void arena_free(arena *arena);

typedef enum json_kind { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_LIST, JSON_OBJECT } json_kind;

typedef struct json {
    json_kind kind;
    int truth;           /* JSON_BOOL */
    double number;       /* JSON_NUMBER */
    char *text;          /* JSON_STRING, and the digits of JSON_NUMBER; NUL-terminated */
    size_t len;          /* of text, or of items */
    char **keys;         /* JSON_OBJECT */
    struct json **items; /* JSON_LIST, JSON_OBJECT */
} json;

/* NULL when it is malformed. */
json *json_parse(arena *arena, const char *text);
/* NULL when there is none. */
const json *json_get(const json *object, const char *key);
/* By a path such as a.b.0; NULL when there is none. */
const json *json_at(const json *value, const char *path);
const char *json_text(const json *object, const char *key);
char *json_write(arena *arena, const json *value);
json *json_string(arena *arena, const char *text, size_t len);
json *json_object(arena *arena);
void json_set(arena *arena, json *object, const char *key, const json *value);

/* Text that grows. */
typedef struct text {
    arena *arena;
    char *data;
    size_t len, room;
} text;

void text_add(text *text, const char *data, size_t len);
void text_print(text *text, const char *format, ...);

#endif
