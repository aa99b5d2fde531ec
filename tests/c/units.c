/*
 * What the C interface promises without any daemon: NULLs, bad UTF-8, bad JSON, wrong sizes, finalizers, cancelling,
 * forks. Run plain, under AddressSanitizer and under valgrind.
 */
#define _POSIX_C_SOURCE 200809L
#include <dunnage.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int passed, failed;

#define CHECK(condition) check((condition) ? 1 : 0, #condition, __LINE__)

static void check(int ok, const char *what, int line) {
    if (ok) {
        passed++;
    } else {
        failed++;
        printf("FAIL line %d: %s\n", line, what);
    }
}

static int finalized;

static void count_finalizer(void *user_data) {
    ++*(int *)user_data;
}

static int32_t no_event(const char *event, void *user_data) {
    (void)event;
    (void)user_data;
    return 0;
}

/* Checks code and text of an error, and frees it. */
static void expect(dunnage_status status, dunnage_error *error, dunnage_status code, const char *text, int line) {
    check(status == code, dunnage_status_name(status), line);
    check(error != NULL && dunnage_error_code(error) == code, "the error has the status", line);
    check(error != NULL && strcmp(dunnage_error_name(error), dunnage_status_name(code)) == 0, "and its name", line);
    check(strstr(dunnage_error_json(error), text) != NULL, dunnage_error_json(error), line);
    dunnage_error_free(error);
}

#define EXPECT(call, code, text)                                                                                       \
    do {                                                                                                               \
        dunnage_error *error = (dunnage_error *)1;                                                                     \
        dunnage_status status = (call);                                                                                \
        expect(status, error, code, text, __LINE__);                                                                   \
    } while (0)

static void frees_take_null(void) {
    dunnage_engine_free(NULL);
    dunnage_process_free(NULL);
    dunnage_reader_free(NULL);
    dunnage_writer_free(NULL);
    dunnage_cancel_free(NULL);
    dunnage_cancel_trigger(NULL);
    dunnage_error_free(NULL);
    dunnage_string_free(NULL);
    dunnage_buffer_free(NULL);
    dunnage_buffer empty = {NULL, 0, NULL};
    dunnage_buffer_free(&empty);
    CHECK(dunnage_cancel_is_triggered(NULL) == 0);
    CHECK(dunnage_error_code(NULL) == DUNNAGE_OK);
    CHECK(strcmp(dunnage_error_message(NULL), "") == 0);
    CHECK(strcmp(dunnage_error_operation(NULL), "") == 0);
    CHECK(strcmp(dunnage_error_json(NULL), "null") == 0);
    CHECK(dunnage_error_context(NULL, "x") == NULL);
    CHECK(dunnage_process_pid(NULL) == 0);
    CHECK(dunnage_reader_size(NULL) == -1);
}

static void versions(void) {
    CHECK(strcmp(dunnage_version(), DUNNAGE_VERSION) == 0);
    CHECK(dunnage_abi_version() == DUNNAGE_ABI_VERSION);
    CHECK(strcmp(dunnage_status_name(DUNNAGE_OK), "OK") == 0);
    CHECK(strcmp(dunnage_status_name(DUNNAGE_NOT_FOUND), "NOT_FOUND") == 0);
    CHECK(strcmp(dunnage_status_name(12345), "UNEXPECTED") == 0);
}

static void nulls(void) {
    char *result = (char *)1;
    dunnage_buffer buffer = {(const uint8_t *)"x", 1, NULL};
    dunnage_process *process = (dunnage_process *)1;
    size_t count = 7;
    dunnage_stream stream = DUNNAGE_STREAM_STDOUT;
    EXPECT(dunnage_engine_open("{}", NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    EXPECT(dunnage_engine_close(NULL, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    EXPECT(dunnage_engine_health(NULL, NULL, NULL, &result, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    CHECK(result == NULL);
    EXPECT(dunnage_workspace_create(NULL, NULL, NULL, NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "workspace.create");
    EXPECT(dunnage_fs_mkdir(NULL, "a", "{}", NULL, &error), DUNNAGE_INVALID_ARGUMENT, "fs.mkdir");
    EXPECT(dunnage_exec_run(NULL, "a", "{}", NULL, 0, NULL, NULL, &buffer, NULL, &error), DUNNAGE_INVALID_ARGUMENT,
           "exec.run");
    CHECK(buffer.data == NULL && buffer.len == 0);
    EXPECT(dunnage_exec_spawn(NULL, "a", "{}", NULL, &process, &error), DUNNAGE_INVALID_ARGUMENT, "exec.spawn");
    CHECK(process == NULL);
    EXPECT(dunnage_exec_spawn(NULL, "a", "{}", NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "process");
    EXPECT(dunnage_process_read(NULL, 0, &stream, &buffer, &error), DUNNAGE_INVALID_ARGUMENT, "process");
    CHECK(stream == DUNNAGE_STREAM_END);
    EXPECT(dunnage_process_write(NULL, NULL, 0, &error), DUNNAGE_INVALID_ARGUMENT, "process");
    EXPECT(dunnage_process_wait(NULL, 0, NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "process");
    EXPECT(dunnage_reader_read(NULL, NULL, 0, &count, &error), DUNNAGE_INVALID_ARGUMENT, "reader");
    CHECK(count == 0);
    EXPECT(dunnage_writer_finish(NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "writer");
    EXPECT(dunnage_submit(NULL, "engine.health", NULL, NULL, NULL, NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    /* An error that nobody wants is not made. */
    CHECK(dunnage_engine_health(NULL, NULL, NULL, NULL, NULL) == DUNNAGE_INVALID_ARGUMENT);
}

static void bad_text(void) {
    dunnage_engine *engine = (dunnage_engine *)1;
    EXPECT(dunnage_engine_open("\xff\xfe", NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "UTF-8");
    CHECK(engine == NULL);
    EXPECT(dunnage_engine_open("{", NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "line 1");
    EXPECT(dunnage_engine_open("[]", NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "malformed configuration");
    EXPECT(dunnage_engine_open("{\"data_rot\":\"/x\"}", NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "data_rot");
    EXPECT(dunnage_engine_open("{\"data_root\":\"x\"}", NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "data_root");
    EXPECT(dunnage_engine_open_file("/no/such/file.toml", NULL, &engine, &error), DUNNAGE_NOT_FOUND, "/no/such/file.toml");
    EXPECT(dunnage_engine_open_file(NULL, NULL, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "path");

    dunnage_error *error = NULL;
    CHECK(dunnage_engine_open_file("/no/such/file.toml", NULL, &engine, &error) == DUNNAGE_NOT_FOUND);
    CHECK(strcmp(dunnage_error_operation(error), "engine.open") == 0);
    CHECK(strlen(dunnage_error_message(error)) > 0);
    CHECK(strcmp(dunnage_error_context(error, "path"), "/no/such/file.toml") == 0);
    CHECK(dunnage_error_context(error, "nothing") == NULL && dunnage_error_context(error, NULL) == NULL);
    dunnage_error_free(error);
}

static void calls(void) {
    dunnage_engine *engine = NULL;
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.user_data = &finalized;
    call.finalizer = count_finalizer;
    call.on_event = no_event;

    /* The finalizer runs once, also when the call fails at once, and for a submit that does not begin. */
    finalized = 0;
    EXPECT(dunnage_engine_open("{", &call, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "configuration");
    CHECK(finalized == 1);
    EXPECT(dunnage_engine_open("{}", &call, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    CHECK(finalized == 2);
    EXPECT(dunnage_submit(NULL, "engine.health", NULL, NULL, &call, NULL, NULL, &error), DUNNAGE_INVALID_ARGUMENT, "engine");
    CHECK(finalized == 3);

    /* A wrong size is told, and nothing behind it is believed. */
    finalized = 0;
    size_t sizes[] = {0, 1, sizeof(call) - 1, 5000, (size_t)-1};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        call.struct_size = sizes[i];
        EXPECT(dunnage_engine_open("{", &call, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "struct_size");
    }
    CHECK(finalized == 0);

    /* A newer header's struct is taken as long as what is new in it is not used. */
    struct {
        dunnage_call call;
        uint64_t later;
    } newer = {call, 0};
    newer.call.struct_size = sizeof(newer);
    EXPECT(dunnage_engine_open("{", &newer.call, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "configuration");
    newer.later = 1;
    EXPECT(dunnage_engine_open("{}", &newer.call, &engine, &error), DUNNAGE_INVALID_ARGUMENT, "update the library");
    CHECK(finalized == 2);
}

static void cancels(void) {
    dunnage_cancel *cancel = dunnage_cancel_new();
    CHECK(cancel != NULL && dunnage_cancel_is_triggered(cancel) == 0);
    dunnage_cancel_trigger(cancel);
    dunnage_cancel_trigger(cancel);
    CHECK(dunnage_cancel_is_triggered(cancel) == 1);
    dunnage_engine *engine = NULL;
    dunnage_call call = DUNNAGE_CALL_INIT;
    call.cancel = cancel;
    EXPECT(dunnage_engine_open("{\"data_root\":\"/nonexistent/x\"}", &call, &engine, &error), DUNNAGE_CANCELLED, "cancel");
    dunnage_cancel_free(cancel);
}

static void no_daemon(void) {
    char dir[] = "/tmp/dunnage-c-XXXXXX";
    if (mkdtemp(dir) == NULL) {
        perror("mkdtemp");
        exit(2);
    }
    char config[256];
    snprintf(config, sizeof(config), "{\"data_root\":\"%s\",\"backend\":\"containerd\",\"containerd\":{\"address\":\"%s/none.sock\"}}",
             dir, dir);
    dunnage_engine *engine = NULL;
    EXPECT(dunnage_engine_open(config, NULL, &engine, &error), DUNNAGE_UNAVAILABLE, "none.sock");
    CHECK(engine == NULL);
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", dir);
    if (system(command) != 0) {
        failed++;
    }
}

static void *open_badly(void *nothing) {
    (void)nothing;
    for (int i = 0; i < 50; i++) {
        dunnage_engine *engine = NULL;
        dunnage_error *error = NULL;
        if (dunnage_engine_open("{\"x\":1}", NULL, &engine, &error) != DUNNAGE_INVALID_ARGUMENT) {
            abort();
        }
        dunnage_error_free(error);
    }
    return NULL;
}

static void threads(void) {
    pthread_t all[8];
    for (int i = 0; i < 8; i++) {
        CHECK(pthread_create(&all[i], NULL, open_badly, NULL) == 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(all[i], NULL);
    }
}

int main(void) {
    frees_take_null();
    versions();
    nulls();
    bad_text();
    calls();
    cancels();
    no_daemon();
    threads();
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
