/**
 * The events of a service worker, declared so that they also stand in a project without the types
 * of workers (`lib` with DOM only): there they are plain events.
 */
type EventNamed<Name extends string> =
  typeof globalThis extends Record<Name, { prototype: infer Declared }> ? Declared : Event

export type ExtendableEvent = EventNamed<'ExtendableEvent'>
export type ExtendableMessageEvent = EventNamed<'ExtendableMessageEvent'>
export type FetchEvent = EventNamed<'FetchEvent'>

/** The part of every event of a service worker that keeps it running. */
export interface Waiting {
  waitUntil(work: Promise<unknown>): void
}
