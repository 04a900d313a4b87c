/** The package's version, written into every engine. */
export const VERSION = "0.3.0";
