import type { SessionEvent } from './session-event.js'

type Listener = (event: SessionEvent) => void

/** The listeners of a token manager, and the events that wait for the first of them. */
export interface Listeners {
  /** As `onChange` of a token manager. */
  add(listener: Listener, options?: { signal?: AbortSignal }): () => void
  /** Calls every listener. */
  emit(event: SessionEvent): void
  /** Releases the event at once if there is a listener, else to the first one. */
  keep(event: SessionEvent): void
  clear(): void
}

/**
 * Creates the listeners.
 *
 * @param parts.untold Events that wait from the start
 * @param parts.release Gets each waiting event once there is a listener, and emits it if it still
 *   holds
 * @param parts.onThrow Gets what a listener throws
 */
export function createListeners({
  untold = [],
  release,
  onThrow,
}: {
  untold?: readonly SessionEvent[]
  release: Listener
  onThrow: (error: unknown) => void
}): Listeners {
  const listeners = new Set<Listener>()
  const waiting = [...untold]

  const releaseAll = () => {
    if (listeners.size > 0) waiting.splice(0).forEach(release)
  }

  return {
    add: (listener, { signal } = {}) => {
      const remove = () => listeners.delete(listener)
      if (signal?.aborted) return () => {}
      listeners.add(listener)
      signal?.addEventListener('abort', remove)
      queueMicrotask(releaseAll)
      return remove
    },

    emit: (event) => {
      for (const listener of listeners) {
        try {
          listener(event)
        } catch (error) {
          onThrow(error)
        }
      }
    },

    keep: (event) => {
      waiting.push(event)
      releaseAll()
    },

    clear: () => listeners.clear(),
  }
}
