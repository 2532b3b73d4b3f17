declare const self: ServiceWorkerGlobalScope

/**
 * Finds out whether visits of our URLs reach us. Nobody can ask a worker for its listeners, and a
 * listener that answers keeps the event from those after it; so the worker is shown a visit that
 * no browser makes, once, and whoever answers it before us would have answered the real one too.
 */
export const createOrderCheck = (urls: readonly string[]) => {
  let trial: FetchEvent | undefined
  let isFirst: boolean | undefined

  const arrives = (url: string): boolean => {
    try {
      const request = new Request(url, { headers: { accept: 'text/html' } })
      const event = new FetchEvent('fetch', { request })
      // No script can make a navigation, only what looks like one to other scripts.
      Object.defineProperties(request, {
        mode: { value: 'navigate' },
        destination: { value: 'document' },
      })
      Object.defineProperties(event, {
        request: { value: request },
        // The browser's own are not for events of a script, and would tell of a lost answer.
        respondWith: {
          value: (answer: unknown) => {
            event.stopImmediatePropagation()
            Promise.resolve(answer).catch(() => {})
          },
        },
        waitUntil: { value: () => {} },
      })
      trial = event
      self.dispatchEvent(event)
    } catch {
      // It cannot be tried here, which says nothing about the order.
      trial = undefined
    }
    const hasArrived = !trial
    trial = undefined
    return hasArrived
  }

  return {
    /** Is this such a visit? Then it has arrived. */
    takes: (event: Event): boolean => {
      if (event !== trial) return false
      trial = undefined
      return true
    },

    /** Do we get each visit before anybody answers it? Listeners do not change later. */
    isFirst: (): boolean => {
      isFirst ??= urls.every(arrives)
      return isFirst
    },
  }
}
