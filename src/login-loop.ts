/** Per tab, as JSON: when the last rounds came back, in ms since 1970. */
const key = 'tokenward rounds'

/** So many rounds … */
const most = 3
/** … in so many ms are a loop. */
const span = 60_000

const read = (): number[] => {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? '[]')
  } catch {
    // Without storage nothing is counted.
    return []
  }
}

/** A sign-in has come back to this tab, whatever it brought. */
export const countRound = () => {
  try {
    sessionStorage.setItem(key, JSON.stringify([...read(), Date.now()].slice(-most)))
  } catch {}
}

/** Do sign-ins follow one another in this tab, without anybody doing something in the page? */
export const isLoop = (): boolean => {
  const first = read().at(-most)
  const byUser = navigator.userActivation?.hasBeenActive
  return !byUser && first !== undefined && Date.now() - first < span
}
