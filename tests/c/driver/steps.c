#define _POSIX_C_SOURCE 200809L
#include "driver.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef dunnage_status (*workspace_fn)(const dunnage_engine *, const char *, const char *, const dunnage_call *, char **,
                                       dunnage_error **);
typedef dunnage_status (*engine_fn)(const dunnage_engine *, const char *, const dunnage_call *, char **, dunnage_error **);
typedef dunnage_status (*quiet_fn)(const dunnage_engine *, const char *, const char *, const dunnage_call *, dunnage_error **);

static const struct {
    const char *name;
    engine_fn engine;
    workspace_fn workspace;
    quiet_fn quiet;
} operations[] = {
    {"engine.health", dunnage_engine_health, NULL, NULL},
    {"engine.list", dunnage_engine_list, NULL, NULL},
    {"engine.reconcile", dunnage_engine_reconcile, NULL, NULL},
    {"engine.gc", dunnage_engine_gc, NULL, NULL},
    {"image.pull", dunnage_image_pull, NULL, NULL},
    {"image.resolve_digest", dunnage_image_resolve_digest, NULL, NULL},
    {"image.list", dunnage_image_list, NULL, NULL},
    {"image.get", dunnage_image_get, NULL, NULL},
    {"image.delete", dunnage_image_delete, NULL, NULL},
    {"workspace.create", NULL, dunnage_workspace_create, NULL},
    {"workspace.info", NULL, dunnage_workspace_info, NULL},
    {"workspace.start", NULL, dunnage_workspace_start, NULL},
    {"workspace.metrics", NULL, dunnage_workspace_metrics, NULL},
    {"workspace.ensure_running", NULL, dunnage_workspace_ensure_running, NULL},
    {"workspace.stop", NULL, dunnage_workspace_stop, NULL},
    {"workspace.delete", NULL, dunnage_workspace_delete, NULL},
    {"data.export", NULL, dunnage_data_export, NULL},
    {"data.import", NULL, dunnage_data_import, NULL},
    {"workspace.set_limits", NULL, dunnage_workspace_set_limits, NULL},
    {"data.preserve", NULL, dunnage_data_preserve, NULL},
    {"data.restore", NULL, dunnage_data_restore, NULL},
    {"data.preserved", NULL, dunnage_data_preserved, NULL},
    {"data.discard", NULL, dunnage_data_discard, NULL},
    {"workspace.recreate", NULL, dunnage_workspace_recreate, NULL},
    {"exec.sessions", NULL, dunnage_exec_sessions, NULL},
    {"exec.wait", NULL, dunnage_exec_wait, NULL},
    {"exec.signal", NULL, NULL, dunnage_exec_signal},
    {"exec.shell", NULL, dunnage_exec_shell, NULL},
    {"snapshots.create", NULL, dunnage_snapshots_create, NULL},
    {"snapshots.list", NULL, dunnage_snapshots_list, NULL},
    {"snapshots.rollback", NULL, dunnage_snapshots_rollback, NULL},
    {"snapshots.versions", NULL, dunnage_snapshots_versions, NULL},
    {"snapshots.tree", NULL, dunnage_snapshots_tree, NULL},
    {"snapshots.fork", NULL, dunnage_snapshots_fork, NULL},
    {"skills.list", NULL, dunnage_skills_list, NULL},
    {"skills.upsert", NULL, dunnage_skills_upsert, NULL},
    {"skills.delete", NULL, dunnage_skills_delete, NULL},
    {"mcp.connect", NULL, dunnage_mcp_connect, NULL},
    {"mcp.list", NULL, dunnage_mcp_list, NULL},
    {"mcp.send", NULL, dunnage_mcp_send, NULL},
    {"mcp.close", NULL, dunnage_mcp_close, NULL},
    {"tools.list", NULL, dunnage_tools_list, NULL},
    {"tools.call", NULL, dunnage_tools_call, NULL},
    {"snapshots.diff", NULL, dunnage_snapshots_diff, NULL},
    {"snapshots.delete", NULL, dunnage_snapshots_delete, NULL},
    {"snapshots.prune", NULL, dunnage_snapshots_prune, NULL},
    {"fs.stat", NULL, dunnage_fs_stat, NULL},
    {"fs.list", NULL, dunnage_fs_list, NULL},
    {"fs.read_text", NULL, dunnage_fs_read_text, NULL},
    {"fs.upload", NULL, dunnage_fs_upload, NULL},
    {"fs.download", NULL, dunnage_fs_download, NULL},
    {"fs.archive", NULL, dunnage_fs_archive, NULL},
    {"fs.extract", NULL, dunnage_fs_extract, NULL},
    {"fs.mkdir", NULL, NULL, dunnage_fs_mkdir},
    {"fs.rename", NULL, NULL, dunnage_fs_rename},
    {"fs.remove", NULL, NULL, dunnage_fs_remove},
    {"fs.symlink", NULL, NULL, dunnage_fs_symlink},
    {"fs.chmod", NULL, dunnage_fs_chmod, NULL},
    {"fs.chown", NULL, dunnage_fs_chown, NULL},
    {"fs.copy", NULL, dunnage_fs_copy, NULL},
    {"fs.walk", NULL, dunnage_fs_walk, NULL},
    {"fs.glob", NULL, dunnage_fs_glob, NULL},
    {"fs.grep", NULL, dunnage_fs_grep, NULL},
};

/* What a step's call works with, and what it came to. */
typedef struct doing {
    state *s;
    const char *cancel_on;
    dunnage_cancel *cancel;
    json *events;
    const char *id, *options;
    const uint8_t *input;
    size_t input_len;
    char *result;
    const json *items; /* instead of a result, of an operation that yields items */
    text output, errors;
    int finalized;
} doing;

static int32_t take_event(const char *event, void *user_data) {
    doing *d = user_data;
    json *parsed = json_parse(&d->s->arena, event);
    if (parsed == NULL) {
        return -1;
    }
    char number[24];
    snprintf(number, sizeof(number), "%zu", d->events->len);
    json_set(&d->s->arena, d->events, number, parsed);
    const char *type = json_text(parsed, "type");
    /* Both ways to cancel, in turn. */
    if (d->cancel_on != NULL && type != NULL && strcmp(type, d->cancel_on) == 0) {
        if (d->events->len % 2 == 0) {
            return -1;
        }
        dunnage_cancel_trigger(d->cancel);
    }
    return 0;
}

static void take_finalizer(void *user_data) {
    ((doing *)user_data)->finalized++;
}

static void take_buffer(text *into, dunnage_buffer *buffer) {
    text_add(into, buffer->data ? (const char *)buffer->data : "", buffer->len);
    dunnage_buffer_free(buffer);
}

typedef struct feeding {
    dunnage_process *process;
    doing *d;
} feeding;

static void *feed(void *data) {
    feeding *f = data;
    dunnage_process_write(f->process, f->d->input, f->d->input_len, NULL);
    dunnage_process_close_stdin(f->process, NULL);
    return NULL;
}

static dunnage_status spawn(doing *d, const dunnage_call *call, dunnage_error **error) {
    dunnage_process *process;
    dunnage_status status = dunnage_exec_spawn(d->s->run->engine, d->id, d->options, call, &process, error);
    if (status != DUNNAGE_OK) {
        return status;
    }
    feeding f = {process, d};
    pthread_t thread;
    if (pthread_create(&thread, NULL, feed, &f) != 0) {
        abort();
    }
    for (;;) {
        dunnage_stream stream;
        dunnage_buffer chunk;
        status = dunnage_process_read(process, -1, &stream, &chunk, error);
        if (status != DUNNAGE_OK || stream == DUNNAGE_STREAM_END) {
            break;
        }
        take_buffer(stream == DUNNAGE_STREAM_STDOUT ? &d->output : &d->errors, &chunk);
    }
    if (status == DUNNAGE_OK) {
        int32_t code = -1;
        status = dunnage_process_wait(process, -1, &code, &d->result, error);
    }
    pthread_join(thread, NULL);
    dunnage_process_free(process);
    return status;
}

static int32_t take_output(dunnage_stream stream, const uint8_t *data, size_t len, void *user_data) {
    doing *d = user_data;
    text_add(stream == DUNNAGE_STREAM_STDOUT ? &d->output : &d->errors, (const char *)data, len);
    return 0;
}

static dunnage_status attach(doing *d, const dunnage_call *call, dunnage_error **error) {
    dunnage_process *process;
    dunnage_status status = dunnage_exec_attach(d->s->run->engine, d->id, d->options, call, &process, error);
    if (status == DUNNAGE_OK && d->input_len > 0) {
        status = dunnage_process_write(process, d->input, d->input_len, error);
    }
    if (status == DUNNAGE_OK) {
        status = dunnage_process_follow(process, take_output, d, &d->result, error);
    }
    dunnage_process_free(process);
    return status;
}

static dunnage_status open_read(doing *d, const dunnage_call *call, dunnage_error **error) {
    dunnage_reader *reader;
    dunnage_status status = dunnage_fs_open_read(d->s->run->engine, d->id, d->options, call, &reader, error);
    static uint8_t piece[100000];
    size_t count = 1;
    while (status == DUNNAGE_OK && count > 0) {
        status = dunnage_reader_read(reader, piece, sizeof(piece), &count, error);
        text_add(&d->output, (const char *)piece, count);
    }
    dunnage_reader_free(reader);
    return status;
}

static dunnage_status open_write(doing *d, const dunnage_call *call, dunnage_error **error) {
    dunnage_writer *writer;
    dunnage_status status = dunnage_fs_open_write(d->s->run->engine, d->id, d->options, call, &writer, error);
    size_t half = d->input_len / 2;
    if (status == DUNNAGE_OK) {
        status = dunnage_writer_write(writer, d->input, half, error);
    }
    if (status == DUNNAGE_OK) {
        status = dunnage_writer_write(writer, d->input + half, d->input_len - half, error);
    }
    if (status == DUNNAGE_OK) {
        status = dunnage_writer_finish(writer, &d->result, error);
    }
    dunnage_writer_free(writer);
    return status;
}

static dunnage_status open_another(doing *d, const dunnage_call *call, dunnage_error **error) {
    arena *arena = &d->s->arena;
    json *config = merge(arena, json_parse(arena, d->s->run->config), json_parse(arena, d->options));
    dunnage_engine *engine = NULL;
    dunnage_status status = dunnage_engine_open(json_write(arena, config), call, &engine, error);
    dunnage_engine_free(engine);
    return status;
}

static dunnage_status perform(doing *d, const char *op, const dunnage_call *call, dunnage_error **error) {
    const dunnage_engine *engine = d->s->run->engine;
    for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++) {
        if (strcmp(operations[i].name, op) != 0) {
            continue;
        }
        if (operations[i].engine != NULL) {
            return operations[i].engine(engine, d->options, call, &d->result, error);
        }
        if (operations[i].quiet != NULL) {
            return operations[i].quiet(engine, d->id, d->options, call, error);
        }
        return operations[i].workspace(engine, d->id, d->options, call, &d->result, error);
    }
    dunnage_buffer out = {NULL, 0, NULL}, err = {NULL, 0, NULL};
    dunnage_status status;
    if (strcmp(op, "exec.run") == 0) {
        status = dunnage_exec_run(engine, d->id, d->options, d->input, d->input_len, call, &d->result, &out, &err, error);
    } else if (strcmp(op, "fs.read") == 0) {
        status = dunnage_fs_read(engine, d->id, d->options, call, &out, error);
    } else if (strcmp(op, "fs.write") == 0) {
        status = dunnage_fs_write(engine, d->id, d->options, d->input, d->input_len, call, &d->result, error);
    } else if (strcmp(op, "exec.spawn") == 0) {
        status = spawn(d, call, error);
    } else if (strcmp(op, "exec.attach") == 0) {
        status = attach(d, call, error);
    } else if (strcmp(op, "fs.open_read") == 0) {
        status = open_read(d, call, error);
    } else if (strcmp(op, "fs.open_write") == 0) {
        status = open_write(d, call, error);
    } else if (strcmp(op, "engine.events") == 0 || strcmp(op, "mcp.notifications") == 0 ||
               strcmp(op, "workspace.metrics_stream") == 0 || strcmp(op, "fs.watch") == 0) {
        char *all = NULL;
        status = read_items(d->s->run, op, d->id, d->options, call, &all, error);
        if (all != NULL) {
            d->items = json_parse(&d->s->arena, all);
            free(all);
        }
    } else if (strcmp(op, "engine.open") == 0) {
        status = open_another(d, call, error);
    } else {
        fail(d->s, "the driver knows no operation %s", op);
        return DUNNAGE_UNEXPECTED;
    }
    take_buffer(&d->output, &out);
    take_buffer(&d->errors, &err);
    return status;
}

/* Compares the end of the call with what the step expects. */
static int check_end(state *s, const json *step, dunnage_status status, const dunnage_error *error) {
    const char *expected = json_text(step, "expect_error");
    const char *name = dunnage_status_name(status);
    if (expected == NULL) {
        return status == DUNNAGE_OK || fail(s, "%.400s", dunnage_error_json(error));
    }
    if (strcmp(name, expected) != 0) {
        return fail(s, "expected %s, got %s: %.300s", expected, name, dunnage_error_json(error));
    }
    const char *part = json_text(step, "error_contains");
    part = part == NULL ? "" : fill_string(s, part);
    if (part == NULL) {
        return 0;
    }
    const json *told = json_parse(&s->arena, dunnage_error_json(error)), *context = json_get(told, "context");
    int found = strstr(json_text(told, "message"), part) != NULL;
    for (size_t i = 0; !found && i < context->len; i++) {
        found = strstr(context->items[i]->text, part) != NULL;
    }
    return found || fail(s, "the error has no %s: %.300s", part, dunnage_error_json(error));
}

static int check_all(doing *d, const json *step, dunnage_status status, const dunnage_error *error) {
    state *s = d->s;
    json events = *d->events;
    events.kind = JSON_LIST;
    if (d->finalized != 1) {
        return fail(s, "the finalizer ran %d times", d->finalized);
    }
    if (!check_events(s, &events, status == DUNNAGE_OK ? NULL : dunnage_status_name(status)) ||
        !check_end(s, step, status, error)) {
        return 0;
    }
    const json *expected = json_get(step, "expect_events");
    if (expected != NULL && !expect_events(s, expected, &events)) {
        return 0;
    }
    const json *result = d->result == NULL ? d->items : json_parse(&s->arena, d->result);
    if (d->result != NULL && result == NULL) {
        return fail(s, "the result is no JSON: %.200s", d->result);
    }
    expected = json_get(step, "expect");
    if (expected != NULL) {
        expected = fill(s, expected);
        if (expected == NULL || !match(s, expected, result, "result")) {
            return 0;
        }
    }
    const json *length = json_get(step, "expect_output_len");
    if (length != NULL && (size_t)length->number != d->output.len) {
        return fail(s, "output: expected %s bytes, got %zu", length->text, d->output.len);
    }
    const char *output = json_text(step, "expect_output"), *errors = json_text(step, "expect_stderr");
    if (output != NULL && !((output = fill_string(s, output)) && match_bytes(s, output, d->output.data, d->output.len, "output"))) {
        return 0;
    }
    if (errors != NULL && !((errors = fill_string(s, errors)) && match_bytes(s, errors, d->errors.data, d->errors.len, "stderr"))) {
        return 0;
    }
    const char *save = json_text(step, "save");
    if (save != NULL && result != NULL) {
        json_set(&s->arena, s->saved, save, result);
    }
    return 1;
}

int run_step(state *s, const json *step) {
    arena *arena = &s->arena;
    doing d = {0};
    d.s = s;
    d.cancel_on = json_text(step, "cancel_on");
    d.events = json_object(arena);
    d.output.arena = d.errors.arena = arena;
    text_add(&d.output, "", 0);
    text_add(&d.errors, "", 0);
    const json *options = json_get(step, "options");
    options = options == NULL ? json_object(arena) : fill(s, options);
    const char *on = json_text(step, "on");
    d.id = fill_string(s, on == NULL ? "${ws}" : on);
    const json *input = json_get(step, "input");
    input = input == NULL ? json_string(arena, "", 0) : fill(s, input);
    if (options == NULL || d.id == NULL || input == NULL) {
        return 0;
    }
    if (*d.id != 0) {
        json_set(arena, s->used, d.id, json_string(arena, "", 0));
    }
    d.options = json_write(arena, options);
    const json *repeat = json_get(step, "repeat");
    size_t times = repeat == NULL ? 1 : (size_t)repeat->number;
    d.input_len = input->len * times;
    char *all = arena_take(arena, d.input_len + 1);
    for (size_t i = 0; i < times; i++) {
        memcpy(all + i * input->len, input->text, input->len);
    }
    d.input = (const uint8_t *)all;

    const json *limit = json_get(step, "time_limit_ms");
    d.cancel = dunnage_cancel_new();
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.on_event = take_event;
    call.user_data = &d;
    call.finalizer = take_finalizer;
    call.cancel = d.cancel;
    call.time_limit_ms = limit == NULL ? 0 : (uint64_t)limit->number;
    dunnage_error *error = NULL;
    dunnage_status status = perform(&d, json_text(step, "op"), &call, &error);
    int good = check_all(&d, step, status, error);
    dunnage_error_free(error);
    dunnage_string_free(d.result);
    dunnage_cancel_free(d.cancel);
    return good;
}

void delete_workspace(run *run, const char *id) {
    dunnage_workspace_delete(run->engine, id, "{\"grace_ms\":0}", NULL, NULL, NULL);
}
