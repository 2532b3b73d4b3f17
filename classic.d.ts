/**
 * What `tokenward-worker.js` leaves in a worker that imports it with `importScripts`: for
 * `// @ts-check`, with `"types": ["tokenward/classic"]` in tsconfig.json or jsconfig.json.
 */
import type * as library from './dist/types/sw/index.js'

declare global {
  const tokenward: typeof library
  // Declared by the library of workers too, and not by DOM.
  function importScripts(...urls: (string | URL)[]): void
}
