// The library's callbacks, passed on to Go. Handles are numbers; Go must never see them as pointers.
#include "_cgo_export.h"

int32_t dunnage_go_event(const char *event, void *user_data) {
    return dunnageGoEvent((char *)event, (uintptr_t)user_data);
}

void dunnage_go_done(dunnage_status status, char *result, dunnage_error *error, void *user_data) {
    dunnageGoDone(status, result, error, (uintptr_t)user_data);
}

int32_t dunnage_go_item(const char *item, void *user_data) {
    return dunnageGoItem((char *)item, (uintptr_t)user_data);
}

void dunnage_go_items_end(dunnage_status status, dunnage_error *error, void *user_data) {
    dunnageGoItemsEnd(status, error, (uintptr_t)user_data);
}

int dunnage_go_write(void *user_data, const uint8_t *bytes, size_t length) {
    return dunnageGoWrite((uintptr_t)user_data, (uint8_t *)bytes, length);
}

ptrdiff_t dunnage_go_read(void *user_data, uint8_t *bytes, size_t capacity) {
    return dunnageGoRead((uintptr_t)user_data, bytes, capacity);
}
