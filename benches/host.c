/* A host that opens an engine, makes a workspace, runs a command and then tells how much memory it uses.
 *
 *   host CONFIG WORKSPACE CREATE_OPTIONS
 *
 * CONFIG and CREATE_OPTIONS are JSON. Prints its own /proc/self/status. */
#include <stdio.h>
#include <string.h>

#include "dunnage.h"

/* Tells what failed and frees the error. */
static int failed(const char *doing, struct dunnage_error *error) {
    fprintf(stderr, "%s: %s\n", doing, error ? dunnage_error_message(error) : "unknown error");
    dunnage_error_free(error);
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 4) {
        fprintf(stderr, "usage: host CONFIG WORKSPACE CREATE_OPTIONS\n");
        return 2;
    }
    struct dunnage_error *error = NULL;
    struct dunnage_engine *engine = NULL;
    if (dunnage_engine_open(argv[1], NULL, &engine, &error) != DUNNAGE_OK)
        return failed("open", error);
    int status = 0;
    if (dunnage_workspace_create(engine, argv[2], argv[3], NULL, NULL, &error) != DUNNAGE_OK) {
        status = failed("create", error);
    } else {
        struct dunnage_buffer out, err;
        memset(&out, 0, sizeof out);
        memset(&err, 0, sizeof err);
        if (dunnage_exec_run(engine, argv[2], "{\"command\":\"true\"}", NULL, 0, NULL, NULL, &out, &err, &error)
            != DUNNAGE_OK) {
            status = failed("exec", error);
        } else {
            dunnage_buffer_free(&out);
            dunnage_buffer_free(&err);
            char line[256];
            FILE *self = fopen("/proc/self/status", "r");
            while (self && fgets(line, sizeof line, self))
                fputs(line, stdout);
            if (self)
                fclose(self);
        }
        error = NULL;
        if (dunnage_workspace_delete(engine, argv[2], "{\"grace_ms\":0}", NULL, NULL, &error) != DUNNAGE_OK)
            status = failed("delete", error);
    }
    dunnage_engine_free(engine);
    return status;
}
