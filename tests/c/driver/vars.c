#define _POSIX_C_SOURCE 200809L
#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void fresh_id(char *id, size_t room) {
    static unsigned long count;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    snprintf(id, room, "c-%x-%lx-%lu", (unsigned)getpid(), (unsigned long)now.tv_sec * 1000 + (unsigned long)now.tv_nsec / 1000000,
             ++count);
}

static const json *lookup(state *s, const char *path) {
    char first[128];
    size_t len = strcspn(path, ".");
    snprintf(first, sizeof(first), "%.*s", (int)len, path);
    const json *scopes[] = {s->saved, s->own, s->run->environment};
    for (int i = 0; i < 3; i++) {
        if (json_get(scopes[i], first) != NULL) {
            return json_at(scopes[i], path);
        }
    }
    return NULL;
}

const json *fill_text(state *s, const char *given) {
    size_t length = strlen(given);
    text out = {&s->arena, NULL, 0, 0};
    text_add(&out, "", 0);
    const char *at = given;
    for (;;) {
        const char *begin = strstr(at, "${");
        if (begin == NULL) {
            text_add(&out, at, strlen(at));
            return json_string(&s->arena, out.data, out.len);
        }
        const char *end = strchr(begin, '}');
        if (end == NULL) {
            fail(s, "unclosed variable in %s", given);
            return NULL;
        }
        char *path = arena_text(&s->arena, begin + 2, (size_t)(end - begin - 2));
        const json *found = lookup(s, path);
        if (found == NULL) {
            fail(s, "unknown variable ${%s}", path);
            return NULL;
        }
        if (begin == given && end == given + length - 1) {
            return found;
        }
        text_add(&out, at, (size_t)(begin - at));
        if (found->kind == JSON_STRING) {
            text_add(&out, found->text, found->len);
        } else {
            char *written = json_write(&s->arena, found);
            text_add(&out, written, strlen(written));
        }
        at = end + 1;
    }
}

const char *fill_string(state *s, const char *given) {
    const json *filled = fill_text(s, given);
    return filled == NULL ? NULL : filled->kind == JSON_STRING ? filled->text : json_write(&s->arena, filled);
}

const json *fill(state *s, const json *value) {
    if (value->kind == JSON_STRING) {
        /* Bytes with a NUL have no variables. */
        return strlen(value->text) == value->len ? fill_text(s, value->text) : value;
    }
    if (value->kind != JSON_LIST && value->kind != JSON_OBJECT) {
        return value;
    }
    json *all = arena_take(&s->arena, sizeof(json));
    *all = *value;
    all->items = arena_take(&s->arena, (value->len + 1) * sizeof(json *));
    for (size_t i = 0; i < value->len; i++) {
        const json *one = fill(s, value->items[i]);
        if (one == NULL) {
            return NULL;
        }
        all->items[i] = arena_take(&s->arena, sizeof(json));
        *all->items[i] = *one;
    }
    return all;
}

json *merge(arena *arena, const json *under, const json *over) {
    json *all = json_object(arena);
    for (size_t i = 0; i < under->len; i++) {
        json_set(arena, all, under->keys[i], under->items[i]);
    }
    for (size_t i = 0; i < over->len; i++) {
        const json *before = json_get(all, over->keys[i]);
        const json *item = over->items[i];
        if (before != NULL && before->kind == JSON_OBJECT && item->kind == JSON_OBJECT) {
            item = merge(arena, before, item);
        }
        json_set(arena, all, over->keys[i], item);
    }
    return all;
}
