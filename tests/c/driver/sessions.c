/* Detached commands. */
#include "driver.h"

#include <stdlib.h>
#include <string.h>

/* What a reader has seen, and what it looks for. */
typedef struct look {
    char seen[256];
    const char *part;
} look;

static int32_t take(dunnage_stream stream, const uint8_t *data, size_t len, void *user_data) {
    look *l = user_data;
    size_t used = strlen(l->seen), room = sizeof(l->seen) - 1 - used;
    memcpy(l->seen + used, data, len < room ? len : room);
    /* Enough, and nothing more is wanted. */
    return stream != DUNNAGE_STREAM_STDOUT || strstr(l->seen, l->part) != NULL;
}

static int until(dunnage_process *process, const char *part) {
    look l = {"", part};
    return dunnage_process_follow(process, take, &l, NULL, NULL) == DUNNAGE_CANCELLED && strstr(l.seen, part) != NULL;
}

static int ended_by_usr1(char *result) {
    int good = result != NULL && strstr(result, "\"signal\":10") != NULL && strstr(result, "\"session_id\":\"s\"") != NULL;
    dunnage_string_free(result);
    return good;
}

int session_goes_on(state *s, const char *id) {
    const dunnage_engine *engine = s->run->engine;
    static const char options[] = "{\"command\":\"echo up; cat\",\"detach\":true,\"session_id\":\"s\"}";
    dunnage_process *first = NULL, *one = NULL, *other = NULL;
    dunnage_exec_spawn(engine, id, options, NULL, &first, NULL);
    int good = first != NULL && strcmp(dunnage_process_session_id(first), "s") == 0 && until(first, "up\n");
    dunnage_process_free(first);
    first = NULL;
    if (!good) {
        return fail(s, "the session did not begin");
    }
    if (dunnage_exec_wait(engine, id, "{\"session_id\":\"s\",\"timeout_ms\":50}", NULL, NULL, NULL) != DUNNAGE_TIMEOUT ||
        dunnage_exec_spawn(engine, id, options, NULL, &first, NULL) != DUNNAGE_ALREADY_EXISTS) {
        return fail(s, "the session did not go on");
    }
    dunnage_exec_attach(engine, id, "{\"session_id\":\"s\"}", NULL, &one, NULL);
    dunnage_exec_attach(engine, id, "{\"session_id\":\"s\"}", NULL, &other, NULL);
    char *exit = NULL, *again = NULL;
    good = one != NULL && other != NULL &&
           dunnage_process_write(one, (const uint8_t *)"more\n", 5, NULL) == DUNNAGE_OK && until(one, "up\nmore\n") &&
           until(other, "up\nmore\n") && dunnage_process_detach(other, NULL) == DUNNAGE_OK &&
           dunnage_process_wait(other, 10000, NULL, NULL, NULL) == DUNNAGE_FAILED_PRECONDITION &&
           dunnage_process_signal_name(one, "NOTHING", NULL) == DUNNAGE_INVALID_ARGUMENT &&
           dunnage_process_signal_name(one, "USR1", NULL) == DUNNAGE_OK &&
           dunnage_process_wait(one, 10000, NULL, &exit, NULL) == DUNNAGE_OK &&
           dunnage_exec_wait(engine, id, "{\"session_id\":\"s\"}", NULL, &again, NULL) == DUNNAGE_OK;
    dunnage_process_free(one);
    dunnage_process_free(other);
    int told = ended_by_usr1(exit);
    told &= ended_by_usr1(again);
    return (good && told) || fail(s, "those attached did not do as told");
}
