/* Archives of data through callbacks. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

#define FILL \
    "{\"command\":\"cd /data && mkdir -p d/empty && echo one > one && echo two > 'd/t w o' && ln -s one link && " \
    "head -c 5000000 /dev/urandom > much\"}"
#define LOOK "{\"command\":\"cd /data && find . | sort && find . -type f -exec md5sum {} + | sort\"}"
#define CHANGE "{\"command\":\"rm -rf /data/d && echo later > /data/later\"}"
#define NOW "{\"grace_ms\":0}"

/* An archive in memory, and what becomes of a stream in its middle. */
typedef struct shelf {
    unsigned char *bytes;
    size_t length, room, at;
    size_t middle;         /* after so many bytes; 0 for never */
    int answer;            /* it gives this answer, unless that is 0 */
    dunnage_cancel *cancel; /* and triggers this, unless it is NULL */
} shelf;

static int in_the_middle(shelf *s) {
    int there = s->middle != 0 && s->at >= s->middle;
    if (there && s->cancel != NULL) {
        dunnage_cancel_trigger(s->cancel);
    }
    return there;
}

static int put(void *user_data, const uint8_t *bytes, size_t length) {
    shelf *s = user_data;
    if (s->at + length > s->room) {
        s->room = (s->at + length) * 2;
        s->bytes = realloc(s->bytes, s->room);
        if (s->bytes == NULL) {
            abort();
        }
    }
    memcpy(s->bytes + s->at, bytes, length);
    s->at += length;
    s->length = s->at;
    return in_the_middle(s) ? s->answer : 0;
}

static ptrdiff_t get(void *user_data, uint8_t *bytes, size_t capacity) {
    shelf *s = user_data;
    if (in_the_middle(s) && s->answer != 0) {
        return s->answer;
    }
    size_t left = s->length - s->at, count = left < capacity ? left : capacity;
    /* Less than there is room for is fine. */
    count = count > 70001 ? 70001 : count;
    memcpy(bytes, s->bytes + s->at, count);
    s->at += count;
    return (ptrdiff_t)count;
}

static int command(state *s, const char *options, dunnage_buffer *out) {
    int32_t failed = 0;
    char *result = NULL;
    failed = dunnage_exec_run(s->run->engine, fill_string(s, "${ws}"), options, NULL, 0, NULL, &result, out, NULL, NULL) != DUNNAGE_OK ||
             strstr(result, "\"exit_code\":0") == NULL;
    dunnage_string_free(result);
    return !failed || fail(s, "a command failed: %s", options);
}

/* The workspace runs, and its data is as it was. */
static int unchanged(state *s, const dunnage_buffer *before) {
    dunnage_buffer now = {0};
    int same = command(s, LOOK, &now) && now.len == before->len && memcmp(now.data, before->data, now.len) == 0;
    dunnage_buffer_free(&now);
    return same || fail(s, "the data is not as it was");
}

static int make(state *s) {
    const char *id = fill_string(s, "${ws}");
    json_set(&s->arena, s->used, id, json_string(&s->arena, "", 0));
    const char *options = fill_string(s, "{\"image\":\"${images.busybox}\"}");
    return (dunnage_workspace_create(s->run->engine, id, options, NULL, NULL, NULL) == DUNNAGE_OK || fail(s, "cannot make it")) &&
           command(s, FILL, NULL);
}

/* Runs one way through a shelf; the status must be this, and the error must say that. */
static int pass(state *s, int out, shelf *shelf, dunnage_status expected, const char *said) {
    const char *id = fill_string(s, "${ws}");
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.cancel = shelf->cancel;
    shelf->at = 0;
    char *result = NULL;
    dunnage_error *error = NULL;
    dunnage_status status =
        out ? dunnage_data_export_stream(s->run->engine, id, NOW, &call, put, shelf, &result, &error)
            : dunnage_data_import_stream(s->run->engine, id, NOW, &call, get, shelf, &result, &error);
    int good = status == expected && (status == DUNNAGE_OK) == (result != NULL) &&
               (error == NULL || strstr(dunnage_error_message(error), said) != NULL);
    if (!good) {
        fail(s, "%s came to %s: %.300s", out ? "the export" : "the import", dunnage_status_name(status),
             error == NULL ? "" : dunnage_error_json(error));
    }
    dunnage_string_free(result);
    dunnage_error_free(error);
    return good;
}

/* Both ways that end in the middle, and change nothing. */
static int middles(state *s, int out, shelf *shelf, const dunnage_buffer *before) {
    int failing = out ? 5 : -3;
    shelf->middle = 1000000;
    shelf->answer = failing;
    int good = pass(s, out, shelf, DUNNAGE_UNEXPECTED, out ? "it returned 5" : "it returned -3") && unchanged(s, before);
    shelf->answer = 0;
    shelf->cancel = dunnage_cancel_new();
    good = good && pass(s, out, shelf, DUNNAGE_CANCELLED, "") && unchanged(s, before);
    dunnage_cancel_free(shelf->cancel);
    return good;
}

int data_export_stream(state *s) {
    if (!make(s)) {
        return 0;
    }
    const char *id = fill_string(s, "${ws}");
    shelf shelf = {0};
    dunnage_buffer before = {0};
    int good = command(s, LOOK, &before) && pass(s, 1, &shelf, DUNNAGE_OK, "") &&
               (shelf.length > 5000000 || fail(s, "the archive has %zu bytes", shelf.length)) && unchanged(s, &before) &&
               middles(s, 1, &shelf, &before);
    good = good &&
           ((dunnage_data_export_stream(s->run->engine, id, NOW, NULL, NULL, NULL, NULL, NULL) == DUNNAGE_INVALID_ARGUMENT &&
             dunnage_data_export_stream(s->run->engine, id, "{\"destination\":\"/tmp/x\"}", NULL, put, &shelf, NULL, NULL) ==
                 DUNNAGE_INVALID_ARGUMENT) ||
            fail(s, "it took what it must refuse"));
    dunnage_buffer_free(&before);
    free(shelf.bytes);
    return good;
}

int data_import_stream(state *s) {
    if (!make(s)) {
        return 0;
    }
    const char *id = fill_string(s, "${ws}");
    shelf shelf = {0};
    dunnage_buffer before = {0}, changed = {0};
    int good = command(s, LOOK, &before) && pass(s, 1, &shelf, DUNNAGE_OK, "") && command(s, CHANGE, NULL) &&
               pass(s, 0, &shelf, DUNNAGE_OK, "") && unchanged(s, &before) && command(s, CHANGE, NULL) &&
               command(s, LOOK, &changed) && middles(s, 0, &shelf, &changed);
    good = good && (dunnage_data_import_stream(s->run->engine, id, NOW, NULL, NULL, NULL, NULL, NULL) == DUNNAGE_INVALID_ARGUMENT ||
                    fail(s, "it took what it must refuse"));
    dunnage_buffer_free(&before);
    dunnage_buffer_free(&changed);
    free(shelf.bytes);
    return good;
}
