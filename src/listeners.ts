import type { SessionEvent } from './session-event.js'

/** Gets an event. */
export type Listener = (event: SessionEvent) => void

/** The listeners of a token manager, and the events that wait for the first of them. */
export interface Listeners {
  /** Adds a listener; returns a function that removes it. */
  onChange(listener: Listener, options?: { signal?: AbortSignal }): () => void
  /** Calls every listener. */
  emit(event: SessionEvent): void
  /** Releases the event at once if there is a listener, else to the first one. */
  keep(event: SessionEvent): void
  clear(): void
}

/**
 * Creates the listeners.
 *
 * @param parts.release Gets each kept event once there is a listener, to emit it if it still holds
 * @param parts.onThrow Gets what a listener throws
 */
export function createListeners({
  release,
  onThrow,
}: {
  release: Listener
  onThrow: (error: unknown) => void
}): Listeners {
  const listeners = new Set<Listener>()
  const kept: SessionEvent[] = []

  const releaseAll = () => {
    if (listeners.size) kept.splice(0).forEach(release)
  }

  return {
    onChange: (listener, { signal } = {}) => {
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
      kept.push(event)
      releaseAll()
    },

    clear: () => listeners.clear(),
  }
}
