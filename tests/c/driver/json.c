#include "json.h"

#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    max_align_t data[];
};

void *arena_take(arena *arena, size_t size) {
    struct block *block = calloc(1, sizeof(struct block) + size);
    if (block == NULL) {
        abort();
    }
    block->next = arena->blocks;
    arena->blocks = block;
    return block->data;
}

char *arena_text(arena *arena, const char *text, size_t len) {
    char *copy = arena_take(arena, len + 1);
    if (len > 0) {
        memcpy(copy, text, len);
    }
    return copy;
}

void arena_free(arena *arena) {
    while (arena->blocks != NULL) {
        struct block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

void text_add(text *text, const char *data, size_t len) {
    if (text->len + len + 1 > text->room) {
        text->room = (text->len + len + 1) * 2;
        char *bigger = arena_take(text->arena, text->room);
        if (text->len > 0) {
            memcpy(bigger, text->data, text->len);
        }
        text->data = bigger;
    }
    if (len > 0) {
        memcpy(text->data + text->len, data, len);
    }
    text->len += len;
    text->data[text->len] = 0;
}

void text_print(text *text, const char *format, ...) {
    char line[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    text_add(text, line, strlen(line));
}

typedef struct parser {
    arena *arena;
    const char *at;
    int bad;
} parser;

static json *value(parser *p);

static void spaces(parser *p) {
    while (*p->at == ' ' || *p->at == '\n' || *p->at == '\t' || *p->at == '\r') {
        p->at++;
    }
}

static int eat(parser *p, char c) {
    spaces(p);
    if (*p->at != c) {
        return 0;
    }
    p->at++;
    return 1;
}

static json *make(parser *p, json_kind kind) {
    json *made = arena_take(p->arena, sizeof(json));
    made->kind = kind;
    return made;
}

static unsigned hex(parser *p) {
    unsigned code = 0;
    for (int i = 0; i < 4; i++) {
        char c = *p->at;
        if (!isxdigit((unsigned char)c)) {
            p->bad = 1;
            return 0;
        }
        code = code * 16 + (unsigned)(isdigit((unsigned char)c) ? c - '0' : (c | 32) - 'a' + 10);
        p->at++;
    }
    return code;
}

static void utf8(text *out, unsigned code) {
    char bytes[4];
    size_t len;
    if (code < 0x80) {
        bytes[0] = (char)code;
        len = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xC0 | code >> 6);
        bytes[1] = (char)(0x80 | (code & 63));
        len = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xE0 | code >> 12);
        bytes[1] = (char)(0x80 | (code >> 6 & 63));
        bytes[2] = (char)(0x80 | (code & 63));
        len = 3;
    } else {
        bytes[0] = (char)(0xF0 | code >> 18);
        bytes[1] = (char)(0x80 | (code >> 12 & 63));
        bytes[2] = (char)(0x80 | (code >> 6 & 63));
        bytes[3] = (char)(0x80 | (code & 63));
        len = 4;
    }
    text_add(out, bytes, len);
}

static json *string(parser *p) {
    text out = {p->arena, NULL, 0, 0};
    text_add(&out, "", 0);
    while (*p->at != '"') {
        if (*p->at == 0) {
            p->bad = 1;
            return NULL;
        }
        if (*p->at != '\\') {
            text_add(&out, p->at++, 1);
            continue;
        }
        p->at++;
        static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
        const char *found = *p->at ? strchr(from, *p->at) : NULL;
        if (found != NULL) {
            text_add(&out, to + (found - from), 1);
            p->at++;
        } else if (*p->at == 'u') {
            p->at++;
            unsigned code = hex(p);
            if (code >= 0xD800 && code < 0xDC00 && p->at[0] == '\\' && p->at[1] == 'u') {
                p->at += 2;
                code = 0x10000 + ((code - 0xD800) << 10) + (hex(p) - 0xDC00);
            }
            utf8(&out, code);
        } else {
            p->bad = 1;
            return NULL;
        }
    }
    p->at++;
    json *made = make(p, JSON_STRING);
    made->text = out.data;
    made->len = out.len;
    return made;
}

static void push(arena *arena, json *into, char *key, json *item) {
    if ((into->len & (into->len - 1)) == 0) {
        size_t room = into->len ? into->len * 2 : 1;
        json **items = arena_take(arena, room * sizeof(json *));
        char **keys = arena_take(arena, room * sizeof(char *));
        if (into->len > 0) {
            memcpy(items, into->items, into->len * sizeof(json *));
            memcpy(keys, into->keys, into->len * sizeof(char *));
        }
        into->items = items;
        into->keys = keys;
    }
    into->keys[into->len] = key;
    into->items[into->len++] = item;
}

static json *many(parser *p, json_kind kind, char end) {
    json *made = make(p, kind);
    if (eat(p, end)) {
        return made;
    }
    do {
        char *key = NULL;
        if (kind == JSON_OBJECT) {
            json *name = eat(p, '"') ? string(p) : NULL;
            if (name == NULL || !eat(p, ':')) {
                p->bad = 1;
                return NULL;
            }
            key = name->text;
        }
        json *item = value(p);
        if (item == NULL) {
            return NULL;
        }
        push(p->arena, made, key, item);
    } while (eat(p, ','));
    if (!eat(p, end)) {
        p->bad = 1;
        return NULL;
    }
    return made;
}

static json *value(parser *p) {
    spaces(p);
    if (eat(p, '"')) {
        return string(p);
    }
    if (eat(p, '{')) {
        return many(p, JSON_OBJECT, '}');
    }
    if (eat(p, '[')) {
        return many(p, JSON_LIST, ']');
    }
    static const char *words[] = {"null", "true", "false"};
    for (int i = 0; i < 3; i++) {
        if (strncmp(p->at, words[i], strlen(words[i])) == 0) {
            p->at += strlen(words[i]);
            json *made = make(p, i == 0 ? JSON_NULL : JSON_BOOL);
            made->truth = i == 1;
            return made;
        }
    }
    char *end;
    double number = strtod(p->at, &end);
    if (end == p->at) {
        p->bad = 1;
        return NULL;
    }
    json *made = make(p, JSON_NUMBER);
    made->number = number;
    made->len = (size_t)(end - p->at);
    made->text = arena_text(p->arena, p->at, made->len);
    p->at = end;
    return made;
}

json *json_parse(arena *arena, const char *text) {
    parser p = {arena, text, 0};
    json *made = value(&p);
    spaces(&p);
    return p.bad || *p.at != 0 ? NULL : made;
}

const json *json_get(const json *object, const char *key) {
    if (object == NULL || object->kind != JSON_OBJECT) {
        return NULL;
    }
    for (size_t i = 0; i < object->len; i++) {
        if (strcmp(object->keys[i], key) == 0) {
            return object->items[i];
        }
    }
    return NULL;
}

const json *json_at(const json *value, const char *path) {
    while (value != NULL && *path != 0) {
        size_t len = strcspn(path, ".");
        char key[128];
        if (len >= sizeof(key)) {
            return NULL;
        }
        memcpy(key, path, len);
        key[len] = 0;
        if (value->kind == JSON_LIST) {
            size_t i = (size_t)strtoul(key, NULL, 10);
            value = i < value->len ? value->items[i] : NULL;
        } else {
            value = json_get(value, key);
        }
        path += len + (path[len] == '.');
    }
    return value;
}

const char *json_text(const json *object, const char *key) {
    const json *found = json_get(object, key);
    return found != NULL && found->kind == JSON_STRING ? found->text : NULL;
}

json *json_string(arena *arena, const char *text, size_t len) {
    json *made = arena_take(arena, sizeof(json));
    made->kind = JSON_STRING;
    made->text = arena_text(arena, text, len);
    made->len = len;
    return made;
}

json *json_object(arena *arena) {
    json *made = arena_take(arena, sizeof(json));
    made->kind = JSON_OBJECT;
    return made;
}

void json_set(arena *arena, json *object, const char *key, const json *value) {
    json *copy = arena_take(arena, sizeof(json));
    *copy = *value;
    for (size_t i = 0; i < object->len; i++) {
        if (strcmp(object->keys[i], key) == 0) {
            object->items[i] = copy;
            return;
        }
    }
    push(arena, object, arena_text(arena, key, strlen(key)), copy);
}

static void write_string(text *out, const char *data, size_t len) {
    text_add(out, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)data[i];
        if (c == '"' || c == '\\') {
            text_print(out, "\\%c", c);
        } else if (c < 0x20) {
            text_print(out, "\\u%04x", c);
        } else {
            text_add(out, data + i, 1);
        }
    }
    text_add(out, "\"", 1);
}

static void write_value(text *out, const json *value) {
    switch (value->kind) {
    case JSON_NULL:
        text_add(out, "null", 4);
        break;
    case JSON_BOOL:
        text_print(out, "%s", value->truth ? "true" : "false");
        break;
    case JSON_NUMBER:
        text_add(out, value->text, value->len);
        break;
    case JSON_STRING:
        write_string(out, value->text, value->len);
        break;
    case JSON_LIST:
    case JSON_OBJECT:
        text_add(out, value->kind == JSON_LIST ? "[" : "{", 1);
        for (size_t i = 0; i < value->len; i++) {
            if (i > 0) {
                text_add(out, ",", 1);
            }
            if (value->kind == JSON_OBJECT) {
                write_string(out, value->keys[i], strlen(value->keys[i]));
                text_add(out, ":", 1);
            }
            write_value(out, value->items[i]);
        }
        text_add(out, value->kind == JSON_LIST ? "]" : "}", 1);
        break;
    }
}

char *json_write(arena *arena, const json *value) {
    text out = {arena, NULL, 0, 0};
    write_value(&out, value);
    return out.data;
}
