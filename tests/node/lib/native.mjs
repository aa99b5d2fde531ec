export const native = {};
