/*
 * A tour through a workspace's life from C: create with a progress bar, files, a command, stop, start, delete.
 *
 * Reads $DUNNAGE_TOUR_CONFIG (JSON, as dunnage_engine_open takes it), $DUNNAGE_TOUR_IMAGE and, optionally,
 * $DUNNAGE_TOUR_WORKSPACE. Its last line is a JSON object with the milliseconds of each step.
 */
#define _POSIX_C_SOURCE 200809L
#include <dunnage.h>

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char steps[2048];
static struct timespec since;
static volatile sig_atomic_t interrupted;

static void interrupt(int signal) {
    (void)signal;
    interrupted = 1;
}

/* The number after "key": in flat JSON text; good enough for a tour, where a host would use its JSON library. */
static uint64_t number(const char *json, const char *key) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":", key);
    const char *at = strstr(json, wanted);
    return at == NULL ? 0 : strtoull(at + strlen(wanted), NULL, 10);
}

/* The text after "key": in flat JSON text, into `into`. */
static const char *text(const char *json, const char *key, char *into, size_t size) {
    char wanted[64];
    snprintf(wanted, sizeof wanted, "\"%s\":\"", key);
    const char *at = strstr(json, wanted);
    size_t length = at == NULL ? 0 : strcspn(at + strlen(wanted), "\"");
    snprintf(into, size, "%.*s", (int)length, at == NULL ? "" : at + strlen(wanted));
    return into;
}

static int32_t on_event(const char *event, void *user_data) {
    (void)user_data;
    if (interrupted) {
        return -1;
    }
    int terminal = isatty(STDOUT_FILENO);
    if (strstr(event, "\"type\":\"pull_progress\"") != NULL) {
        uint64_t bytes = number(event, "bytes"), total = number(event, "total_bytes"), ms = number(event, "elapsed_ms");
        int layers = 0;
        for (const char *at = event; (at = strstr(at, "\"ref\":")) != NULL; at++) {
            layers++;
        }
        int filled = (int)(bytes * 30 / (total > 0 ? total : 1));
        if (terminal || number(event, "unpacked_bytes") == total) {
            printf("%s  [%.*s%.*s] %d layers  %.1f/%.1f MB  %.0f MB/s%s", terminal ? "\r" : "", filled,
                   "##############################", 30 - filled, "..............................", layers,
                   (double)bytes / 1e6, (double)total / 1e6, (double)bytes / 1e3 / (double)(ms > 0 ? ms : 1),
                   terminal ? "\033[K" : "\n");
            fflush(stdout);
        }
    } else if (strstr(event, "\"type\":\"creating\"") != NULL && terminal) {
        putchar('\n');
    }
    return 0;
}

static void done(const char *name, const char *what) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double ms = (double)(now.tv_sec - since.tv_sec) * 1e3 + (double)(now.tv_nsec - since.tv_nsec) / 1e6;
    printf("  %-7s %8.1f ms  %s\n", name, ms, what);
    size_t used = strlen(steps);
    snprintf(steps + used, sizeof steps - used, "%s{\"name\":\"%s\",\"ms\":%.1f}", used > 0 ? "," : "", name, ms);
    clock_gettime(CLOCK_MONOTONIC, &since);
}

/* Ends the program when a call has failed. */
static void check(dunnage_status status, dunnage_error *const *error) {
    if (status != DUNNAGE_OK) {
        fprintf(stderr, "tour: %s\n", *error == NULL ? dunnage_status_name(status) : dunnage_error_json(*error));
        exit(1);
    }
}

int main(void) {
    const char *image = getenv("DUNNAGE_TOUR_IMAGE"), *id = getenv("DUNNAGE_TOUR_WORKSPACE");
    id = id == NULL ? "tour-c" : id;
    dunnage_error *error = NULL;
    dunnage_engine *engine = NULL;
    clock_gettime(CLOCK_MONOTONIC, &since);
    check(dunnage_engine_open(getenv("DUNNAGE_TOUR_CONFIG"), NULL, &engine, &error), &error);

    char options[1024], one[256], two[256], what[1024], *result = NULL;
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.on_event = on_event;
    /* Ctrl-C: the next event's callback cancels the creation, which undoes what it has begun. */
    struct sigaction action = {.sa_handler = interrupt, .sa_flags = SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);
    snprintf(options, sizeof options, "{\"image\": \"%s\"}", image == NULL ? "" : image);
    check(dunnage_workspace_create(engine, id, options, &call, &result, &error), &error);
    snprintf(what, sizeof what, "%s from %s", text(result, "container_id", one, sizeof one),
             text(result, "image", two, sizeof two));
    done("create", what);
    dunnage_string_free(result);

    const char poem[] = "Packed with care,\nthe cargo stays whole.\n";
    check(dunnage_fs_write(engine, id, "{\"path\": \"poem.txt\"}", (const uint8_t *)poem, sizeof poem - 1, NULL, NULL,
                           &error),
          &error);
    done("write", "/data/poem.txt");
    check(dunnage_fs_read_text(engine, id, "{\"path\": \"/data/poem.txt\"}", NULL, &result, &error), &error);
    snprintf(what, sizeof what, "%" PRIu64 " lines", number(result, "total_lines"));
    done("read", what);
    dunnage_string_free(result);

    dunnage_buffer output = {0};
    check(dunnage_exec_run(engine, id, "{\"command\": \"echo $(wc -c < poem.txt) $(uname -m)\"}", NULL, 0, NULL,
                           &result, &output, NULL, &error),
          &error);
    snprintf(what, sizeof what, "%.*s (exit code %" PRIu64 ")", output.len > 0 ? (int)output.len - 1 : 0,
             (const char *)output.data, number(result, "exit_code"));
    done("run", what);
    dunnage_buffer_free(&output);
    dunnage_string_free(result);

    check(dunnage_workspace_info(engine, id, NULL, NULL, &result, &error), &error);
    snprintf(what, sizeof what, "%s, pid %" PRIu64, text(result, "status", one, sizeof one), number(result, "pid"));
    done("info", what);
    dunnage_string_free(result);

    check(dunnage_workspace_stop(engine, id, NULL, NULL, &result, &error), &error);
    done("stop", text(result, "outcome", one, sizeof one));
    dunnage_string_free(result);
    check(dunnage_workspace_start(engine, id, NULL, NULL, &result, &error), &error);
    done("start", text(result, "outcome", one, sizeof one));
    dunnage_string_free(result);
    check(dunnage_workspace_delete(engine, id, NULL, NULL, NULL, &error), &error);
    done("delete", "");

    dunnage_engine_free(engine);
    printf("{\"language\":\"c\",\"steps\":[%s]}\n", steps);
    return 0;
}
