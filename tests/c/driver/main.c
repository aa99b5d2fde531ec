/* The behaviour driver of C: runs the cases of tests/behavior through the public header. */
#define _XOPEN_SOURCE 700
#include "driver.h"

#include <ftw.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int fail(state *s, const char *format, ...) {
    if (s->why == NULL) {
        char line[1024];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(line, sizeof(line), format, arguments);
        va_end(arguments);
        s->why = arena_text(&s->arena, line, strlen(line));
    }
    return 0;
}

static char *slurp(arena *arena, const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        return NULL;
    }
    text all = {arena, NULL, 0, 0};
    char piece[4096];
    size_t count;
    while ((count = fread(piece, 1, sizeof(piece), file)) > 0) {
        text_add(&all, piece, count);
    }
    fclose(file);
    return all.data;
}

static int unlink_one(const char *path, const struct stat *status, int kind, struct FTW *at) {
    (void)status;
    (void)kind;
    (void)at;
    return remove(path);
}

static void begin_case(state *s, const char *tmp) {
    char id[64];
    s->saved = json_object(&s->arena);
    s->own = json_object(&s->arena);
    s->used = json_object(&s->arena);
    fresh_id(id, sizeof(id));
    json_set(&s->arena, s->own, "ws", json_string(&s->arena, id, strlen(id)));
    fresh_id(id, sizeof(id));
    json_set(&s->arena, s->own, "ws2", json_string(&s->arena, id, strlen(id)));
    json_set(&s->arena, s->own, "tmp", json_string(&s->arena, tmp, strlen(tmp)));
    json_set(&s->arena, s->own, "lang", json_string(&s->arena, "c", 1));
}

static int run_case(state *s, const json *one, const char *id) {
    const json *native = json_get(one, "native");
    if (native != NULL && native->truth) {
        int ok = 0;
        return run_native(s, id, &ok) ? ok : fail(s, "nothing implements it");
    }
    const json *steps = json_get(one, "step");
    for (size_t i = 0; steps != NULL && i < steps->len; i++) {
        if (!run_step(s, steps->items[i])) {
            char *inner = s->why;
            s->why = NULL;
            return fail(s, "step %zu (%s): %s", i + 1, json_text(steps->items[i], "op"), inner ? inner : "it failed");
        }
    }
    return 1;
}

/* Why a case is skipped; NULL when it is not. */
static const char *missing(arena *arena, const run *run, const json *one) {
    const json *needs = json_get(one, "needs");
    for (size_t i = 0; needs != NULL && i < needs->len; i++) {
        const json *found = json_at(run->environment, needs->items[i]->text);
        if (found == NULL || found->kind == JSON_NULL) {
            text why = {arena, NULL, 0, 0};
            text_print(&why, "the environment has no %s", needs->items[i]->text);
            return why.data;
        }
    }
    if (json_get(one, "native") != NULL && json_at(run->environment, "images.busybox") == NULL) {
        return "the environment has no images.busybox";
    }
    return json_text(json_get(one, "except"), "c");
}

static int begin(run *run, arena *arena) {
    const char *path = getenv("DUNNAGE_TEST_CASES"), *told = getenv("DUNNAGE_TEST_ENV");
    char *cases = path == NULL ? NULL : slurp(arena, path);
    run->suite = cases == NULL ? NULL : json_parse(arena, cases);
    json *environment = told == NULL ? NULL : json_parse(arena, told);
    if (run->suite == NULL || environment == NULL) {
        fprintf(stderr, "driver: set DUNNAGE_TEST_CASES to the cases as JSON and DUNNAGE_TEST_ENV to the harness's line\n");
        return 0;
    }
    const char *runtime = getenv("DUNNAGE_RUNTIME_DIR");
    if (json_get(environment, "runtime_dir") == NULL && runtime != NULL) {
        json_set(arena, environment, "runtime_dir", json_string(arena, runtime, strlen(runtime)));
    }
    run->environment = environment;
    state s = {run, {NULL}, NULL, NULL, NULL, NULL};
    s.saved = s.own = json_object(&s.arena);
    const json *config = fill(&s, json_get(run->suite, "config"));
    if (config == NULL) {
        fprintf(stderr, "driver: %s\n", s.why);
        return 0;
    }
    char *written = json_write(&s.arena, config);
    run->config = arena_text(arena, written, strlen(written));
    arena_free(&s.arena);
    dunnage_error *error = NULL;
    if (dunnage_engine_open(run->config, NULL, &run->engine, &error) != DUNNAGE_OK) {
        fprintf(stderr, "driver: %s\n", dunnage_error_json(error));
        dunnage_error_free(error);
        return 0;
    }
    return 1;
}

int main(void) {
    arena forever = {NULL};
    run run = {NULL, NULL, NULL, NULL};
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (!begin(&run, &forever)) {
        return 2;
    }
    const char *only = getenv("DUNNAGE_TEST_ONLY");
    int passed = 0, failed = 0, skipped = 0;
    const json *cases = json_get(run.suite, "case");
    for (size_t i = 0; i < cases->len; i++) {
        const json *one = cases->items[i];
        const char *id = json_text(one, "id");
        if (only != NULL && strstr(id, only) == NULL) {
            continue;
        }
        state s = {&run, {NULL}, NULL, NULL, NULL, NULL};
        const char *why = missing(&s.arena, &run, one);
        if (why != NULL) {
            printf("skip %s %s\n", id, why);
            skipped++;
            arena_free(&s.arena);
            continue;
        }
        char tmp[] = "/tmp/dunnage-c-XXXXXX";
        if (mkdtemp(tmp) == NULL) {
            perror("mkdtemp");
            return 2;
        }
        begin_case(&s, tmp);
        if (run_case(&s, one, id)) {
            printf("ok %s\n", id);
            passed++;
        } else {
            printf("FAIL %s %s\n", id, s.why ? s.why : "it failed");
            failed++;
        }
        for (size_t k = 0; k < s.used->len; k++) {
            delete_workspace(&run, s.used->keys[k]);
        }
        nftw(tmp, unlink_one, 16, FTW_DEPTH | FTW_PHYS);
        arena_free(&s.arena);
    }
    dunnage_engine_free(run.engine);
    arena_free(&forever);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed == 0 ? 0 : 1;
}
