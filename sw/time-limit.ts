import type { Platform } from './platform.js'

/**
 * Runs `work` for `ms` at most; undefined if it took longer. `late` is aborted then, for work
 * that can be told; calling `enough` lifts the limit.
 */
export const withTimeLimit = async <T>(
  wait: Platform['wait'],
  ms: number,
  work: (late: AbortSignal, enough: () => void) => T | Promise<T>,
): Promise<T | undefined> => {
  const late = new AbortController()
  const stop = new AbortController()
  const enough = () => stop.abort()
  const limit = wait(ms, stop.signal).then(
    () => late.abort(),
    () => new Promise<never>(() => {}),
  )
  try {
    return (await Promise.race([work(late.signal, enough), limit])) as T | undefined
  } finally {
    enough()
  }
}
