/** Calls back each time this page comes back from the back/forward cache, until `signal` aborts. */
export const onRestored = (callback: () => void, signal?: AbortSignal): void => {
  addEventListener('pageshow', ({ persisted }) => persisted && callback(), { signal })
}
