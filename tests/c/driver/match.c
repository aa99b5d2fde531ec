#include "driver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int text_fits(const char *pattern, const char *data, size_t len) {
    if (*pattern == '~') {
        size_t part = strlen(++pattern);
        for (size_t i = 0; i + part <= len; i++) {
            if (memcmp(data + i, pattern, part) == 0) {
                return 1;
            }
        }
        return 0;
    }
    if (*pattern == '=') {
        pattern++;
    }
    return strlen(pattern) == len && (len == 0 || memcmp(pattern, data, len) == 0);
}

static int fits(const char *pattern, const json *actual) {
    int nothing = actual == NULL || actual->kind == JSON_NULL;
    if (strcmp(pattern, "*") == 0 || strcmp(pattern, "!") == 0) {
        return nothing == (*pattern == '!');
    }
    if ((*pattern == '>' || *pattern == '<') && pattern[1] == '=') {
        char *end;
        double bound = strtod(pattern + 2, &end);
        if (end != pattern + 2 && *end == 0) {
            return !nothing && actual->kind == JSON_NUMBER && (*pattern == '>' ? actual->number >= bound : actual->number <= bound);
        }
    }
    return !nothing && actual->kind == JSON_STRING && text_fits(pattern, actual->text, actual->len);
}

static int same(const json *expected, const json *actual) {
    if (actual == NULL || actual->kind != expected->kind) {
        return 0;
    }
    switch (expected->kind) {
    case JSON_BOOL:
        return expected->truth == actual->truth;
    case JSON_NUMBER:
        return expected->number == actual->number;
    default:
        return 1;
    }
}

/* Tells where the first difference is in place, if that is not NULL. */
static int matches(state *s, const json *expected, const json *actual, const char *place, char **where) {
    int good = 1;
    if (expected->kind == JSON_OBJECT) {
        good = actual != NULL && actual->kind == JSON_OBJECT;
        for (size_t i = 0; good && i < expected->len; i++) {
            text inner = {&s->arena, NULL, 0, 0};
            text_print(&inner, "%s.%s", place, expected->keys[i]);
            if (!matches(s, expected->items[i], json_get(actual, expected->keys[i]), inner.data, where)) {
                return 0;
            }
        }
    } else if (expected->kind == JSON_LIST) {
        int some = expected->len > 0 && expected->items[0]->kind == JSON_STRING && strcmp(expected->items[0]->text, "...") == 0;
        good = actual != NULL && actual->kind == JSON_LIST && (some || actual->len == expected->len);
        for (size_t i = (size_t)some; good && i < expected->len; i++) {
            int found = 0;
            for (size_t j = some ? 0 : i; !found && j < (some ? actual->len : i + 1); j++) {
                found = matches(s, expected->items[i], actual->items[j], place, some ? NULL : where);
            }
            good = found;
        }
    } else if (expected->kind == JSON_STRING) {
        good = fits(expected->text, actual);
    } else {
        good = same(expected, actual);
    }
    if (!good && where != NULL && *where == NULL) {
        text out = {&s->arena, NULL, 0, 0};
        const char *got = actual == NULL ? "nothing" : json_write(&s->arena, actual);
        text_print(&out, "%s: expected %.150s, got %.250s", place, json_write(&s->arena, expected), got);
        *where = out.data;
    }
    return good;
}

int match(state *s, const json *expected, const json *actual, const char *place) {
    char *where = NULL;
    return matches(s, expected, actual, place, &where) || fail(s, "%s", where ? where : "it does not match");
}

int match_bytes(state *s, const char *pattern, const char *data, size_t len, const char *what) {
    int good = strcmp(pattern, "*") == 0 ? len > 0 : text_fits(pattern, data, len);
    return good || fail(s, "%s: expected %.150s, got %zu bytes: %.*s", what, pattern, len, (int)(len < 150 ? len : 150), data);
}

static int terminal(const char *type) {
    return strcmp(type, "complete") == 0 || strcmp(type, "error") == 0;
}

static int rises(state *s, json *marks, const char *key, const json *value) {
    if (value == NULL || value->kind != JSON_NUMBER) {
        return 1;
    }
    const json *mark = json_get(marks, key);
    if (mark != NULL && value->number < mark->number) {
        return fail(s, "events: %s fell from %s to %s", key, mark->text, value->text);
    }
    json_set(&s->arena, marks, key, value);
    return 1;
}

int check_events(state *s, const json *events, const char *code) {
    if (events->len == 0) {
        return 1;
    }
    json *marks = json_object(&s->arena);
    const json *before = NULL;
    for (size_t i = 0; i < events->len; i++) {
        const json *event = events->items[i];
        const char *type = json_text(event, "type");
        if (type == NULL || terminal(type) != (i + 1 == events->len)) {
            return fail(s, "events: %s is number %zu of %zu", type ? type : "?", i + 1, events->len);
        }
        if (strcmp(json_text(event, "operation_id"), json_text(events->items[0], "operation_id")) != 0) {
            return fail(s, "events: two operation ids");
        }
        static const char *counts[] = {"elapsed_ms", "bytes", "unpacked_bytes"};
        for (int k = 0; k < 3; k++) {
            if (!rises(s, marks, counts[k], json_get(event, counts[k]))) {
                return 0;
            }
        }
        const json *layers = json_get(event, "layers");
        if (layers == NULL) {
            continue;
        }
        json *here = json_object(&s->arena);
        for (size_t k = 0; k < layers->len; k++) {
            const char *name = json_text(layers->items[k], "ref");
            const json *offset = json_get(layers->items[k], "offset");
            if (name == NULL || !rises(s, marks, name, offset)) {
                return fail(s, "events: a layer without a name");
            }
            if (offset->number > json_get(layers->items[k], "total")->number) {
                return fail(s, "events: layer %s is past its end", name);
            }
            json_set(&s->arena, here, name, offset);
        }
        for (size_t k = 0; before != NULL && k < before->len; k++) {
            if (json_get(here, before->keys[k]) == NULL) {
                return fail(s, "events: layer %s disappeared", before->keys[k]);
            }
        }
        before = here;
    }
    const json *last = events->items[events->len - 1];
    const char *type = json_text(last, "type"), *told = json_text(last, "code");
    if (strcmp(type, code == NULL ? "complete" : "error") != 0) {
        return fail(s, "events: the call came to %s, the last event is %s", code ? code : "success", type);
    }
    if (code != NULL && (told == NULL || (strcmp(told, code) != 0 && !(strcmp(code, "TIMEOUT") == 0 && strcmp(told, "CANCELLED") == 0)))) {
        return fail(s, "events: the call failed with %s, the last event says %s", code, told ? told : "nothing");
    }
    return 1;
}

int expect_events(state *s, const json *expected, const json *events) {
    size_t at = 0;
    text came = {&s->arena, NULL, 0, 0};
    text_add(&came, "", 0);
    const json *list[256];
    size_t count = 0;
    for (size_t i = 0; i < events->len && count < 256; i++) {
        const char *type = json_text(events->items[i], "type");
        if (count == 0 || strcmp(type, json_text(list[count - 1], "type")) != 0) {
            list[count++] = events->items[i];
            text_print(&came, " %s", type);
        }
    }
    for (size_t i = 0; i < expected->len; i++) {
        const char *want = expected->items[i]->text;
        size_t len = strlen(want);
        int optional = len > 0 && want[len - 1] == '?';
        len -= (size_t)optional;
        const char *type = at < count ? json_text(list[at], "type") : "";
        if (strlen(type) == len && strncmp(type, want, len) == 0) {
            at++;
        } else if (!optional) {
            return fail(s, "events: expected %s, got%s", json_write(&s->arena, expected), came.data);
        }
    }
    return at == count || fail(s, "events: expected %s, got%s", json_write(&s->arena, expected), came.data);
}
