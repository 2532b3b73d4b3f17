/** Per tab, as JSON: the times of the last rounds, in ms since 1970. */
const key = 'tokenward rounds'

/** This many rounds … */
const most = 3
/** … in this many ms are a loop. */
const span = 60_000

const read = (): number[] => {
  try {
    return JSON.parse(sessionStorage.getItem(key) ?? '[]')
  } catch {
    // Without storage, rounds do not count.
    return []
  }
}

/** Counts a sign-in that has come back to this tab, with or without success. */
export const countRound = () => {
  try {
    sessionStorage.setItem(key, JSON.stringify([...read(), Date.now()].slice(-most)))
  } catch {}
}

/** Do sign-ins follow one another in this tab, without a click or key in this page? */
export const isLoop = (): boolean => {
  const first = read().at(-most)
  const byUser = navigator.userActivation?.hasBeenActive
  return !byUser && first !== undefined && Date.now() - first < span
}
