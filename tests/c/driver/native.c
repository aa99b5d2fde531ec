/* The cases that are written by hand. */
#define _POSIX_C_SOURCE 200809L
#include "driver.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void pause_ms(long ms) {
    struct timespec time = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&time, NULL);
}

/* The options of a small workspace. */
static const char *small(state *s) {
    return fill_string(s, "{\"image\":\"${images.busybox}\"}");
}

/* Makes a workspace under this case's own id. */
static int make(state *s, const dunnage_call *call) {
    const char *id = fill_string(s, "${ws}");
    json_set(&s->arena, s->used, id, json_string(&s->arena, "", 0));
    dunnage_error *error = NULL;
    int good = dunnage_workspace_create(s->run->engine, id, small(s), call, NULL, &error) == DUNNAGE_OK ||
               fail(s, "%.400s", dunnage_error_json(error));
    dunnage_error_free(error);
    return good;
}

static int bad_arguments(state *s) {
    const dunnage_engine *engine = s->run->engine;
    static const char *bad[] = {"[]", "{", "{\"x\":1}", "\xff", "nul"};
    for (int i = 0; i < 5; i++) {
        if (dunnage_engine_health(engine, bad[i], NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT) {
            return fail(s, "health took %s", bad[i]);
        }
    }
    if (dunnage_workspace_info(engine, NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_workspace_info(engine, "a\xff", NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_workspace_info(engine, "a b", NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_exec_run(engine, "a", "{\"command\":3}", NULL, 0, NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_exec_run(engine, "a", "{\"command\":\"x\"}", NULL, 5, NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_fs_read(engine, "a", "{\"path\":\"x\"}", NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_fs_write(engine, "a", "{\"path\":\"x\"}", NULL, 5, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_submit(engine, "no.such", NULL, NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_submit(engine, "exec.run", "a", NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT ||
        dunnage_submit(engine, "engine.health", NULL, NULL, NULL, NULL, NULL, NULL) != DUNNAGE_INVALID_ARGUMENT) {
        return fail(s, "a call took what it must refuse");
    }
    return 1;
}

typedef struct seen {
    state *s;
    atomic_int events, last_is_complete, failures, finalized;
} seen;

static int32_t slow_event(const char *event, void *user_data) {
    seen *all = user_data;
    pause_ms(200);
    all->events++;
    all->last_is_complete = strstr(event, "\"type\":\"complete\"") != NULL;
    return 0;
}

static int32_t calling_event(const char *event, void *user_data) {
    (void)event;
    seen *all = user_data;
    all->events++;
    if (dunnage_engine_health(all->s->run->engine, NULL, NULL, NULL, NULL) != DUNNAGE_OK) {
        all->failures++;
    }
    return 0;
}

static int callback_sleeps(state *s) {
    seen all = {s, 0, 0, 0, 0};
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.on_event = slow_event;
    call.user_data = &all;
    return make(s, &call) && ((all.events > 0 && all.last_is_complete) || fail(s, "%d events", all.events));
}

static int callback_calls_back(state *s) {
    seen all = {s, 0, 0, 0, 0};
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.on_event = calling_event;
    call.user_data = &all;
    return make(s, &call) && ((all.events > 0 && all.failures == 0) || fail(s, "%d calls failed", all.failures));
}

static void *trigger_twice(void *cancel) {
    pause_ms(200);
    dunnage_cancel_trigger(cancel);
    dunnage_cancel_trigger(cancel);
    return NULL;
}

static int cancel_call(state *s) {
    if (!make(s, NULL)) {
        return 0;
    }
    dunnage_cancel *cancel = dunnage_cancel_new();
    pthread_t thread;
    pthread_create(&thread, NULL, trigger_twice, cancel);
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.cancel = cancel;
    const char *id = fill_string(s, "${ws}");
    dunnage_status status = dunnage_exec_run(s->run->engine, id, "{\"command\":\"sleep 1000\"}", NULL, 0, &call, NULL, NULL, NULL, NULL);
    pthread_join(thread, NULL);
    dunnage_cancel_free(cancel);
    return status == DUNNAGE_CANCELLED || fail(s, "it came to %s", dunnage_status_name(status));
}

/* Runs f on n threads at once, each with its number, and counts what failed. */
typedef struct crowd {
    state *s;
    int (*f)(state *s, int number);
    int number;
} crowd;

static void *member(void *data) {
    crowd *one = data;
    return one->f(one->s, one->number) ? NULL : data;
}

static int at_once(state *s, int n, int (*f)(state *, int)) {
    pthread_t threads[200];
    crowd members[200];
    int failures = 0;
    for (int i = 0; i < n; i++) {
        members[i] = (crowd){s, f, i};
        if (pthread_create(&threads[i], NULL, member, &members[i]) != 0) {
            abort();
        }
    }
    for (int i = 0; i < n; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        failures += failed != NULL;
    }
    return failures == 0 || fail(s, "%d of %d failed", failures, n);
}

static int one_health(state *s, int number) {
    (void)number;
    char *result = NULL;
    int good = dunnage_engine_health(s->run->engine, NULL, NULL, &result, NULL) == DUNNAGE_OK &&
               strstr(result, "\"healthy\":true") != NULL;
    dunnage_string_free(result);
    return good;
}

static void take_done(dunnage_status status, char *result, dunnage_error *error, void *user_data) {
    atomic_int *done = user_data;
    *done += status == DUNNAGE_OK && result != NULL && error == NULL ? 1 : 1000;
    dunnage_string_free(result);
    dunnage_error_free(error);
}

static int many_calls_one_engine(state *s) {
    if (!at_once(s, 200, one_health)) {
        return 0;
    }
    /* And 200 that hold no thread. */
    atomic_int done = 0;
    for (int i = 0; i < 200; i++) {
        if (dunnage_submit(s->run->engine, "engine.health", NULL, NULL, NULL, take_done, &done, NULL) != DUNNAGE_OK) {
            return fail(s, "submit %d failed", i);
        }
    }
    for (int i = 0; i < 600 && done < 200; i++) {
        pause_ms(50);
    }
    return done == 200 || fail(s, "the submitted calls came to %d", done);
}

static char shared_id[64];

static int one_command(state *s, int number) {
    char options[64], expected[32];
    snprintf(options, sizeof(options), "{\"command\":\"echo number %d\"}", number);
    snprintf(expected, sizeof(expected), "number %d\n", number);
    dunnage_buffer out;
    int good = dunnage_exec_run(s->run->engine, shared_id, options, NULL, 0, NULL, NULL, &out, NULL, NULL) == DUNNAGE_OK &&
               out.len == strlen(expected) && memcmp(out.data, expected, out.len) == 0;
    dunnage_buffer_free(&out);
    return good;
}

static int many_calls_one_workspace(state *s) {
    snprintf(shared_id, sizeof(shared_id), "%s", fill_string(s, "${ws}"));
    return make(s, NULL) && at_once(s, 200, one_command);
}

static const char *shared_options;

static int one_create(state *s, int number) {
    char id[96];
    snprintf(id, sizeof(id), "%s-%d", shared_id, number);
    return dunnage_workspace_create(s->run->engine, id, shared_options, NULL, NULL, NULL) == DUNNAGE_OK;
}

static int one_delete(state *s, int number) {
    char id[96];
    snprintf(id, sizeof(id), "%s-%d", shared_id, number);
    return dunnage_workspace_delete(s->run->engine, id, "{\"grace_ms\":0}", NULL, NULL, NULL) == DUNNAGE_OK;
}

static int twenty_workspaces(state *s) {
    snprintf(shared_id, sizeof(shared_id), "%s", fill_string(s, "${ws}"));
    shared_options = small(s);
    int made = at_once(s, 20, one_create);
    return at_once(s, 20, one_delete) && made;
}

typedef struct creation {
    dunnage_engine *engine;
    const char *id, *options;
    atomic_int begun;
    dunnage_status status;
} creation;

static int32_t begun_event(const char *event, void *user_data) {
    (void)event;
    ((creation *)user_data)->begun = 1;
    return 0;
}

static void *create_one(void *data) {
    creation *c = data;
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.on_event = begun_event;
    call.user_data = c;
    c->status = dunnage_workspace_create(c->engine, c->id, c->options, &call, NULL, NULL);
    c->begun = 1;
    return NULL;
}

static int close_while_running(state *s) {
    creation c = {NULL, fill_string(s, "${ws}"), small(s), 0, DUNNAGE_OK};
    json_set(&s->arena, s->used, c.id, json_string(&s->arena, "", 0));
    if (dunnage_engine_open(s->run->config, NULL, &c.engine, NULL) != DUNNAGE_OK) {
        return fail(s, "cannot open a second engine");
    }
    pthread_t thread;
    pthread_create(&thread, NULL, create_one, &c);
    while (!c.begun) {
        pause_ms(1);
    }
    dunnage_status closed = dunnage_engine_close(c.engine, NULL);
    pthread_join(thread, NULL);
    dunnage_status after = dunnage_engine_health(c.engine, NULL, NULL, NULL, NULL);
    dunnage_status again = dunnage_engine_close(c.engine, NULL);
    dunnage_engine_free(c.engine);
    int ended = c.status == DUNNAGE_OK || c.status == DUNNAGE_CANCELLED;
    return (closed == DUNNAGE_OK && again == DUNNAGE_OK && ended && after == DUNNAGE_FAILED_PRECONDITION) ||
           fail(s, "close %s, again %s, the creation %s, a call after it %s", dunnage_status_name(closed),
                dunnage_status_name(again), dunnage_status_name(c.status), dunnage_status_name(after));
}

/* Reads until the text so far has this part. */
static int read_until(dunnage_process *process, const char *part) {
    char all[1024] = "";
    while (strstr(all, part) == NULL) {
        dunnage_stream stream;
        dunnage_buffer chunk;
        if (dunnage_process_read(process, 10000, &stream, &chunk, NULL) != DUNNAGE_OK || stream == DUNNAGE_STREAM_END) {
            return 0;
        }
        size_t used = strlen(all), room = sizeof(all) - 1 - used;
        memcpy(all + used, chunk.data, chunk.len < room ? chunk.len : room);
        dunnage_buffer_free(&chunk);
    }
    return 1;
}

static int process_streams(state *s) {
    if (!make(s, NULL)) {
        return 0;
    }
    const char *id = fill_string(s, "${ws}");
    dunnage_process *process = NULL;
    dunnage_exec_spawn(s->run->engine, id, "{\"command\":\"cat\"}", NULL, &process, NULL);
    dunnage_stream stream;
    dunnage_buffer chunk;
    int32_t code = 0;
    int good = process != NULL && dunnage_process_read(process, 0, &stream, &chunk, NULL) == DUNNAGE_TIMEOUT &&
               dunnage_process_write(process, (const uint8_t *)"one\n", 4, NULL) == DUNNAGE_OK && read_until(process, "one\n") &&
               dunnage_process_wait(process, 10, &code, NULL, NULL) == DUNNAGE_TIMEOUT &&
               dunnage_process_signal(process, 15, NULL) == DUNNAGE_OK &&
               dunnage_process_wait(process, 10000, &code, NULL, NULL) == DUNNAGE_OK && code == 143 &&
               dunnage_process_read(process, 10000, &stream, &chunk, NULL) == DUNNAGE_OK && stream == DUNNAGE_STREAM_END;
    dunnage_process_free(process);
    if (!good) {
        return fail(s, "cat did not do as told; its exit code is %d", code);
    }
    process = NULL;
    dunnage_exec_spawn(s->run->engine, id, "{\"command\":\"read x; stty size\",\"pty\":true}", NULL, &process, NULL);
    good = process != NULL && dunnage_process_resize(process, 99, 33, NULL) == DUNNAGE_OK &&
           dunnage_process_write(process, (const uint8_t *)"\n", 1, NULL) == DUNNAGE_OK && read_until(process, "33 99");
    dunnage_process_free(process);
    return good || fail(s, "the terminal did not do as told");
}

static void *blocked_read(void *process) {
    dunnage_stream stream;
    dunnage_buffer chunk;
    dunnage_process_read(process, -1, &stream, &chunk, NULL);
    dunnage_buffer_free(&chunk);
    return NULL;
}

static int process_dropped(state *s) {
    if (!make(s, NULL)) {
        return 0;
    }
    snprintf(shared_id, sizeof(shared_id), "%s", fill_string(s, "${ws}"));
    dunnage_process *process = NULL;
    dunnage_exec_spawn(s->run->engine, shared_id, "{\"command\":\"exec sleep 987654\"}", NULL, &process, NULL);
    pthread_t thread;
    pthread_create(&thread, NULL, blocked_read, process);
    pause_ms(100);
    dunnage_process_free(process);
    pthread_join(thread, NULL);
    for (int i = 0; i < 60; i++) {
        dunnage_buffer out;
        int gone = dunnage_exec_run(s->run->engine, shared_id, "{\"command\":\"ps | grep -c '[s]leep 987654'\"}", NULL, 0, NULL, NULL,
                                    &out, NULL, NULL) == DUNNAGE_OK &&
                   out.len > 0 && out.data[0] == '0';
        dunnage_buffer_free(&out);
        if (gone) {
            return 1;
        }
        pause_ms(50);
    }
    return fail(s, "the process still runs");
}

static int session(state *s) {
    return make(s, NULL) && session_goes_on(s, fill_string(s, "${ws}"));
}

static int writer_aborted(state *s) {
    if (!make(s, NULL)) {
        return 0;
    }
    const dunnage_engine *engine = s->run->engine;
    const char *id = fill_string(s, "${ws}"), *file = "{\"path\":\"file\"}";
    if (dunnage_fs_write(engine, id, file, (const uint8_t *)"before", 6, NULL, NULL, NULL) != DUNNAGE_OK) {
        return fail(s, "cannot write");
    }
    dunnage_writer *writer = NULL;
    dunnage_fs_open_write(engine, id, file, NULL, &writer, NULL);
    int good = writer != NULL && dunnage_writer_write(writer, (const uint8_t *)"half of it", 10, NULL) == DUNNAGE_OK;
    dunnage_writer_free(writer);
    dunnage_buffer content;
    good = good && dunnage_fs_read(engine, id, file, NULL, &content, NULL) == DUNNAGE_OK;
    if (!good) {
        return fail(s, "cannot write piece by piece, or read");
    }
    good = content.len == 6 && memcmp(content.data, "before", 6) == 0;
    dunnage_buffer_free(&content);
    return good || fail(s, "the file was changed");
}

static int count_in(const char *path) {
    DIR *dir = opendir(path);
    int count = 0;
    while (dir != NULL && readdir(dir) != NULL) {
        count++;
    }
    if (dir != NULL) {
        closedir(dir);
    }
    return count;
}

/* A whole life with an engine of its own: all that it took must be gone after it. */
static int a_life(state *s) {
    dunnage_engine *engine = NULL;
    const char *id = fill_string(s, "${ws}");
    json_set(&s->arena, s->used, id, json_string(&s->arena, "", 0));
    int good = dunnage_engine_open(s->run->config, NULL, &engine, NULL) == DUNNAGE_OK &&
               dunnage_workspace_create(engine, id, small(s), NULL, NULL, NULL) == DUNNAGE_OK &&
               dunnage_exec_run(engine, id, "{\"command\":\"true\"}", NULL, 0, NULL, NULL, NULL, NULL, NULL) == DUNNAGE_OK &&
               dunnage_workspace_delete(engine, id, "{\"grace_ms\":0}", NULL, NULL, NULL) == DUNNAGE_OK;
    dunnage_engine_free(engine);
    return good || fail(s, "a life failed");
}

static int no_leaks(state *s) {
    if (!a_life(s)) {
        return 0;
    }
    pause_ms(3000);
    int descriptors = count_in("/proc/self/fd"), threads = count_in("/proc/self/task");
    for (int i = 0; i < 5; i++) {
        if (!a_life(s)) {
            return 0;
        }
    }
    for (int i = 0; i < 100; i++) {
        if (count_in("/proc/self/fd") <= descriptors && count_in("/proc/self/task") <= threads) {
            return 1;
        }
        pause_ms(50);
    }
    return fail(s, "descriptors %d, before %d; threads %d, before %d", count_in("/proc/self/fd"), descriptors,
                count_in("/proc/self/task"), threads);
}

/* A forked child gets an error, can free what it has, and leaves the parent's engine as it was. */
static int forked_child(state *s) {
    dunnage_engine *engine = NULL;
    if (dunnage_engine_open(s->run->config, NULL, &engine, NULL) != DUNNAGE_OK) {
        return fail(s, "cannot open a second engine");
    }
    pid_t child = fork();
    if (child == 0) {
        dunnage_status status = dunnage_engine_health(engine, NULL, NULL, NULL, NULL);
        dunnage_engine_free(engine);
        _exit(status == DUNNAGE_FAILED_PRECONDITION ? 0 : 1);
    }
    int ended = -1;
    waitpid(child, &ended, 0);
    dunnage_status status = dunnage_engine_health(engine, NULL, NULL, NULL, NULL);
    dunnage_engine_free(engine);
    return (ended == 0 && status == DUNNAGE_OK) ||
           fail(s, "the child ended with %d, the parent's next call with %s", ended, dunnage_status_name(status));
}

static const struct {
    const char *id;
    int (*f)(state *s);
} natives[] = {
    {"native.bad_arguments", bad_arguments},
    {"native.callback_sleeps", callback_sleeps},
    {"native.callback_calls_back", callback_calls_back},
    {"native.cancel", cancel_call},
    {"native.items", items_come},
    {"native.items_cancelled", items_cancelled},
    {"native.many_calls_one_engine", many_calls_one_engine},
    {"native.many_calls_one_workspace", many_calls_one_workspace},
    {"native.twenty_workspaces", twenty_workspaces},
    {"native.close_while_running", close_while_running},
    {"native.process", process_streams},
    {"native.process_dropped", process_dropped},
    {"native.session", session},
    {"native.writer_aborted", writer_aborted},
    {"data.export_stream", data_export_stream},
    {"data.import_stream", data_import_stream},
    {"native.no_leaks", no_leaks},
    {"native.forked_child", forked_child},
};

int run_native(state *s, const char *id, int *ok) {
    for (size_t i = 0; i < sizeof(natives) / sizeof(*natives); i++) {
        if (strcmp(natives[i].id, id) == 0) {
            *ok = natives[i].f(s);
            return 1;
        }
    }
    return 0;
}
