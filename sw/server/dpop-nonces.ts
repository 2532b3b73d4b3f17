import { dateOf } from '../http/date.js'
import type { Platform } from '../platform.js'
import type { DpopState } from '../session/records.js'
import type { Store } from '../session/store.js'

/** The newest nonce of each origin (RFC 9449 8.2), in memory and on the disk. */
export interface DpopNonces {
  /** Reads, once, what an earlier worker has stored. */
  load(): Promise<void>
  of(origin: string): string | undefined
  /** Takes the nonce in an answer, if it is good, and gives it. */
  note(response: Response, origin: string): string | null
  /** Forgets all. */
  clear(): void
  /** What has to be on the disk. */
  state(): DpopState
}

/** How far the clocks of origins are ahead of this device's. */
export interface DpopClocks {
  /** s since 1970, on the clock of this origin */
  secondsAt(origin: string): number
  /**
   * Corrects the clock of the origin of an answer by its `Date`. `right` if it was right, or cannot
   * be told; `off` if it is too far off to be corrected.
   */
  correct(
    response: Response,
    request: { origin: string; sentAt: number },
  ): 'corrected' | 'right' | 'off'
}

/** A clock further off than this, in s, is not corrected: proofs would last too long. */
export const mostSkew = 600

/**
 * A nonce as RFC 9449 8.1 has it, and not too long, whoever it comes from: servers refuse a header
 * that is too long without an answer that brings the next nonce.
 */
const goodNonce = /^[!#-[\]-~]{1,2000}$/

export function createDpopNonces({
  store,
}: {
  store: Pick<Store, 'readDpop' | 'writeDpop'>
}): DpopNonces {
  const nonces = new Map<string, string>()
  let loading: Promise<void> | undefined
  let isSaving = false
  let isUnsaved = false

  const state = (): DpopState => ({ nonces: Object.fromEntries(nonces) })

  const readStored = async () => {
    const stored = await store.readDpop().catch(() => undefined)
    for (const [origin, nonce] of Object.entries(stored?.nonces ?? {})) {
      const isOne = typeof nonce === 'string' && goodNonce.test(nonce)
      if (isOne && !nonces.has(origin)) nonces.set(origin, nonce)
    }
  }

  /** One write at a time, because an API may send a new nonce with each answer. */
  const save = async (): Promise<void> => {
    isUnsaved = true
    if (isSaving) return
    isSaving = true
    while (isUnsaved) {
      isUnsaved = false
      // A lost nonce costs one more request.
      await store.writeDpop(state()).catch(() => {})
    }
    isSaving = false
  }

  return {
    state,

    load: () => {
      loading ??= readStored()
      return loading
    },

    of: (origin) => nonces.get(origin),

    note: ({ headers }, origin) => {
      const nonce = headers.get('dpop-nonce')
      if (nonce === null || !goodNonce.test(nonce)) return null
      if (nonce !== nonces.get(origin)) {
        nonces.set(origin, nonce)
        save()
      }
      return nonce
    },

    clear: () => {
      nonces.clear()
      save()
    },
  }
}

export function createDpopClocks({ now }: Pick<Platform, 'now'>): DpopClocks {
  /** s */
  const ahead = new Map<string, number>()

  return {
    secondsAt: (origin) => Math.floor(now() / 1000) + (ahead.get(origin) ?? 0),

    correct: (response, { origin, sentAt }) => {
      const time = dateOf(response)
      // The header has whole seconds, and the server wrote it at some time since the request.
      const least = Math.floor((time - now()) / 1000)
      const most = Math.ceil((time + 1000 - sentAt) / 1000)
      const known = ahead.get(origin) ?? 0
      if (!(known < least || known > most)) return 'right'
      if (Math.abs(least) > mostSkew) return 'off'
      // Servers take an old proof, but none from the future.
      ahead.set(origin, least)
      return 'corrected'
    },
  }
}
