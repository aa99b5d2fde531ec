/* The header is complete C11 by itself, and C++17: compiled as both, with every warning an error. */
#include <dunnage.h>

#if DUNNAGE_VERSION_NUMBER < 0x000100
#error "the version number is not what the macros say"
#endif

#ifdef __cplusplus
static_assert(DUNNAGE_OK == 0, "success is 0");
#else
_Static_assert(DUNNAGE_OK == 0, "success is 0");
_Static_assert(sizeof(dunnage_status) == 4, "a status is 32 bits");
#endif

int main(void) {
    dunnage_call call = DUNNAGE_CALL_INIT;
    dunnage_status (*create)(const dunnage_engine *, const char *, const char *, const dunnage_call *, char **,
                             dunnage_error **) = dunnage_workspace_create;
    return call.struct_size == sizeof(call) && create != NULL ? 0 : 1;
}
