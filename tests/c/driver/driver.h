/* What the parts of the driver share. */
#ifndef DRIVER_H
#define DRIVER_H

#include "json.h"

#include <dunnage.h>

/* The whole run. */
typedef struct run {
    const json *suite;
    const json *environment;
    dunnage_engine *engine;
    char *config; /* of the engine, as JSON */
} run;

/* One case under way. why is set when it fails. */
typedef struct state {
    run *run;
    arena arena;
    json *saved; /* results of steps, by name */
    json *own;   /* variables of this case */
    json *used;  /* workspaces that steps named */
    char *why;
} state;

/* Notes why the case fails, unless that is noted already, and returns 0. */
int fail(state *s, const char *format, ...);

/* vars.c */
const json *fill(state *s, const json *value);
const json *fill_text(state *s, const char *text);
const char *fill_string(state *s, const char *text);
void fresh_id(char *id, size_t room);
json *merge(arena *arena, const json *under, const json *over);

/* match.c */
int match(state *s, const json *expected, const json *actual, const char *place);
int match_bytes(state *s, const char *pattern, const char *data, size_t len, const char *what);
int check_events(state *s, const json *events, const char *code);
int expect_events(state *s, const json *expected, const json *events);

/* steps.c */
int run_step(state *s, const json *step);
void delete_workspace(run *run, const char *id);

/* items.c; the result is freed by free. */
dunnage_status read_items(const run *run, const char *op, const char *id, const char *options, const dunnage_call *call,
                          char **result, dunnage_error **error);
int items_come(state *s);
int items_cancelled(state *s);

/* data.c */
int data_export_stream(state *s);
int data_import_stream(state *s);

/* sessions.c; in a workspace that runs. */
int session_goes_on(state *s, const char *id);

/* native.c: 1 and its outcome in *ok when there is such a case. */
int run_native(state *s, const char *id, int *ok);

#endif
