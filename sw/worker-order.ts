declare const self: ServiceWorkerGlobalScope

/** Finds out whether visits of our URLs reach us. */
export interface OrderCheck {
  /** Is this the visit that the check makes? Then it has arrived. */
  takes(event: Event): boolean
  /** Do we get each visit before another listener answers it? Listeners do not change later. */
  isFirst(): boolean
}

/**
 * Creates the check. A worker's listeners cannot be listed, and one that answers keeps the event
 * from those after it. So the check dispatches, once, a visit that no browser makes: a listener
 * that answers it before us would have answered the real one too.
 */
export function createOrderCheck(urls: readonly string[]): OrderCheck {
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
        // The browser's own refuse events of a script.
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
      // This browser does not allow the trial, which says nothing about the order.
      trial = undefined
    }
    const hasArrived = !trial
    trial = undefined
    return hasArrived
  }

  return {
    takes: (event) => {
      if (event !== trial) return false
      trial = undefined
      return true
    },

    isFirst: () => {
      isFirst ??= urls.every(arrives)
      return isFirst
    },
  }
}
