// One implementation serves both kinds of modules: an error of one is an instance of the class of the other.
export * from './index.js';
