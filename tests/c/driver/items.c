/* Operations that yield items, and the cases about them. */
#define _POSIX_C_SOURCE 200809L
#include "driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* What a sink has taken. */
typedef struct taken {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    char **items;
    size_t count;
    int slow_ms;           /* how long each item takes */
    size_t enough;         /* end them at this many; 0 for never */
    dunnage_items **freed; /* free this from within the first item */
    int ends, finalized;
    dunnage_status status;
    dunnage_error *error;
} taken;

static int32_t take(const char *item, void *user_data) {
    taken *t = user_data;
    if (t->slow_ms > 0) {
        struct timespec span = {0, t->slow_ms * 1000000L};
        nanosleep(&span, NULL);
    }
    pthread_mutex_lock(&t->lock);
    t->items = realloc(t->items, (t->count + 1) * sizeof(*t->items));
    t->items[t->count++] = strdup(item);
    int stop = t->enough > 0 && t->count >= t->enough;
    pthread_cond_broadcast(&t->changed);
    dunnage_items **freed = t->freed;
    pthread_mutex_unlock(&t->lock);
    if (freed != NULL && *freed != NULL) {
        dunnage_items_free(*freed);
        *freed = NULL;
    }
    return stop;
}

static void end(dunnage_status status, dunnage_error *error, void *user_data) {
    taken *t = user_data;
    pthread_mutex_lock(&t->lock);
    t->ends++;
    t->status = status;
    t->error = error;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void finalize(void *user_data) {
    taken *t = user_data;
    pthread_mutex_lock(&t->lock);
    t->finalized++;
    pthread_cond_broadcast(&t->changed);
    pthread_mutex_unlock(&t->lock);
}

static void begin(taken *t) {
    memset(t, 0, sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    pthread_cond_init(&t->changed, NULL);
}

static void release(taken *t) {
    for (size_t i = 0; i < t->count; i++) {
        free(t->items[i]);
    }
    free(t->items);
    dunnage_error_free(t->error);
    pthread_mutex_destroy(&t->lock);
    pthread_cond_destroy(&t->changed);
}

static dunnage_item_sink sink_of(taken *t) {
    dunnage_item_sink sink = DUNNAGE_ITEM_SINK_INIT;
    sink.on_item = take;
    sink.on_end = end;
    sink.user_data = t;
    sink.finalizer = finalize;
    return sink;
}

/* Waits, for at most half a minute, until so many items have come and it was let go so often. */
static int reached(taken *t, size_t items, int finalized) {
    struct timespec limit;
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += 30;
    pthread_mutex_lock(&t->lock);
    int late = 0;
    while (late == 0 && (t->count < items || t->finalized < finalized)) {
        late = pthread_cond_timedwait(&t->changed, &t->lock, &limit);
    }
    pthread_mutex_unlock(&t->lock);
    return late == 0;
}

dunnage_status read_items(const run *run, const char *op, const char *id, const char *options, const dunnage_call *call,
                          char **result, dunnage_error **error) {
    taken t;
    begin(&t);
    dunnage_item_sink sink = sink_of(&t);
    dunnage_items *items = NULL;
    dunnage_status status = DUNNAGE_UNEXPECTED;
    if (strcmp(op, "engine.events") == 0) {
        status = dunnage_engine_events(run->engine, options, call, &sink, &items, error);
    } else if (strcmp(op, "mcp.notifications") == 0) {
        status = dunnage_mcp_notifications(run->engine, id, options, call, &sink, &items, error);
    } else if (strcmp(op, "workspace.metrics_stream") == 0) {
        status = dunnage_workspace_metrics_stream(run->engine, id, options, call, &sink, &items, error);
    } else if (strcmp(op, "fs.watch") == 0) {
        status = dunnage_fs_watch(run->engine, id, options, call, &sink, &items, error);
    }
    if (status == DUNNAGE_OK) {
        reached(&t, 0, 1);
        dunnage_items_free(items);
        status = t.status;
        *error = t.error;
        t.error = NULL;
    }
    if (status == DUNNAGE_OK) {
        size_t room = 32;
        for (size_t i = 0; i < t.count; i++) {
            room += strlen(t.items[i]) + 1;
        }
        char *all = malloc(room), *at = all;
        at += sprintf(at, "{\"items\":[");
        for (size_t i = 0; i < t.count; i++) {
            at += sprintf(at, "%s%s", i == 0 ? "" : ",", t.items[i]);
        }
        sprintf(at, "]}");
        *result = all;
    }
    release(&t);
    return status;
}

/* Pulls the image: that is told too, and is not what these cases are about. */
static int pulled(state *s) {
    char options[512];
    const json *image = json_at(s->run->environment, "images.busybox");
    snprintf(options, sizeof(options), "{\"image\":\"%s\"}", image->text);
    return dunnage_image_pull(s->run->engine, options, NULL, NULL, NULL) == DUNNAGE_OK || fail(s, "cannot pull");
}

/* Makes a workspace that does not run, and removes it. */
static int brief(state *s, const char *id) {
    char options[512];
    const json *image = json_at(s->run->environment, "images.busybox");
    snprintf(options, sizeof(options), "{\"image\":\"%s\",\"start\":false}", image->text);
    json_set(&s->arena, s->used, id, json_string(&s->arena, "", 0));
    return (dunnage_workspace_create(s->run->engine, id, options, NULL, NULL, NULL) == DUNNAGE_OK &&
            dunnage_workspace_delete(s->run->engine, id, NULL, NULL, NULL, NULL) == DUNNAGE_OK) ||
           fail(s, "cannot make and remove a workspace");
}

/* Compares what a sink has taken with what it should have; n items, and an end of this status. */
static int was(state *s, taken *t, size_t n, dunnage_status status, const char *when) {
    return (t->count == n && t->ends == 1 && t->finalized == 1 && t->status == status && (t->error == NULL) == (status == DUNNAGE_OK)) ||
           fail(s, "%s: %zu items, %d ends, let go %d times, %s", when, t->count, t->ends, t->finalized, dunnage_status_name(t->status));
}

int items_come(state *s) {
    const char *id = fill_string(s, "${ws}");
    char options[128];
    snprintf(options, sizeof(options), "{\"workspace\":\"%s\"}", id);
    dunnage_engine *second = NULL;
    if (dunnage_engine_open(s->run->config, NULL, &second, NULL) != DUNNAGE_OK) {
        return fail(s, "cannot open a second engine");
    }
    taken freed, closed;
    begin(&freed);
    begin(&closed);
    freed.slow_ms = 100;
    dunnage_item_sink to_freed = sink_of(&freed), to_closed = sink_of(&closed);
    dunnage_items *first = NULL, *other = NULL;
    int good = pulled(s);
    good = good && ((dunnage_engine_events(second, options, NULL, &to_freed, &first, NULL) == DUNNAGE_OK &&
                dunnage_items_open(second, "engine.events", NULL, options, NULL, &to_closed, &other, NULL) == DUNNAGE_OK) ||
               fail(s, "cannot follow the events"));
    good = good && brief(s, id) && (reached(&freed, 2, 0) || fail(s, "two events did not come"));
    for (size_t i = 0; good && i < 2; i++) {
        const json *event = json_parse(&s->arena, freed.items[i]);
        const char *kind = json_text(event, "kind");
        good = strcmp(kind, i == 0 ? "create" : "delete") == 0 || fail(s, "event %zu is %s", i, freed.items[i]);
    }
    /* After the free nothing runs any more; the engine's end is an end without an error. */
    dunnage_items_free(first);
    good = good && was(s, &freed, 2, DUNNAGE_CANCELLED, "after the free");
    dunnage_engine_free(second);
    good = good && (reached(&closed, 2, 1) || fail(s, "the items outlast their engine")) &&
           was(s, &closed, 2, DUNNAGE_OK, "after the engine's end");
    dunnage_items_free(other);
    release(&freed);
    release(&closed);
    return good;
}

int items_cancelled(state *s) {
    const char *id = fill_string(s, "${ws}");
    char options[128];
    snprintf(options, sizeof(options), "{\"workspace\":\"%s\"}", id);
    taken cancelled, stopped, inside;
    begin(&cancelled);
    begin(&stopped);
    begin(&inside);
    dunnage_items *items[3] = {NULL, NULL, NULL};
    stopped.enough = 1;
    inside.freed = &items[2];
    dunnage_item_sink sinks[3] = {sink_of(&cancelled), sink_of(&stopped), sink_of(&inside)};
    dunnage_call call = DUNNAGE_CALL_INIT;
    dunnage_cancel *cancel = dunnage_cancel_new();
    call.cancel = cancel;
    int good = pulled(s);
    for (int i = 0; good && i < 3; i++) {
        good = dunnage_engine_events(s->run->engine, options, i == 0 ? &call : NULL, &sinks[i], &items[i], NULL) == DUNNAGE_OK ||
               fail(s, "cannot follow the events");
    }
    dunnage_cancel_trigger(cancel);
    good = good && (reached(&cancelled, 0, 1) || fail(s, "the cancel ends nothing")) &&
           was(s, &cancelled, 0, DUNNAGE_CANCELLED, "after the cancel");
    /* One wants no more after the first item, the other frees the handle from within it. */
    good = good && brief(s, id) && (reached(&stopped, 1, 1) || fail(s, "a return other than 0 ends nothing")) &&
           was(s, &stopped, 1, DUNNAGE_CANCELLED, "after enough") &&
           (reached(&inside, 1, 1) || fail(s, "a free from within ends nothing")) &&
           was(s, &inside, 1, DUNNAGE_CANCELLED, "after a free from within");
    for (int i = 0; i < 3; i++) {
        dunnage_items_free(items[i]);
    }
    dunnage_cancel_free(cancel);
    /* What does not begin is let go and has no end. */
    taken refused;
    begin(&refused);
    dunnage_item_sink sink = sink_of(&refused);
    good = good && ((dunnage_engine_events(s->run->engine, "{", NULL, &sink, &items[0], NULL) == DUNNAGE_INVALID_ARGUMENT &&
                     refused.finalized == 1 && refused.ends == 0 && items[0] == NULL) ||
                    fail(s, "malformed options: let go %d times, %d ends", refused.finalized, refused.ends));
    good = good && (dunnage_items_open(s->run->engine, "engine.list", NULL, NULL, NULL, &sink, &items[0], NULL) == DUNNAGE_INVALID_ARGUMENT ||
                    fail(s, "a list yields items"));
    dunnage_items_free(NULL);
    release(&cancelled);
    release(&stopped);
    release(&inside);
    release(&refused);
    return good;
}
