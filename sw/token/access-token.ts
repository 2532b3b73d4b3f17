import type { Platform } from '../platform.js'
import { ownerOf } from '../session/active-record.js'
import { activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Renewal } from './renewal.js'
import {
  conditionOf,
  notNow,
  signedOut,
  type TokenResult,
  toResult,
  userChanged,
} from './token-result.js'

/** The access token for requests: from memory, else from the disk, else renewed. */
export interface AccessToken {
  /** The token, if memory has a fresh one: synchronous, for the hot path. */
  peek(): TokenResult | undefined
  /** The token for one request. */
  get(wish: {
    /** Takes the work that goes on behind the answer. */
    keepAlive(work: Promise<unknown>): void
    /** `false`: give out an expired token rather than wait for a new one. */
    canWait: boolean
    /** Called when the request waits for a renewal. */
    onWait?(): void
  }): Promise<TokenResult>
  /** The network is back: renews a token that needs it, so that requests find a fresh one. */
  backOnline(): Promise<void>
}

/** What the access token needs of the configuration. */
export interface AccessTokenConfig {
  /** ms before its end from which a token is renewed */
  leeway: number
}

/** Requests that may wait for a renewal at the same time; more would only pile up. */
const mostWaiting = 200
/** Back online, clients come back within this time, in ms, and not all in its first second. */
const onlineSpread = 3_000

/** Creates the source of access tokens. */
export function createAccessToken({
  config: { leeway },
  session,
  renewal: { renew, isPausing },
  platform: { now, random },
}: {
  config: AccessTokenConfig
  session: Pick<WorkerSession, 'peek' | 'read' | 'readAgain'>
  renewal: Pick<Renewal, 'renew' | 'isPausing'>
  platform: Pick<Platform, 'now' | 'random'>
}): AccessToken {
  let waiting = 0

  const conditionNow = (record: Parameters<typeof conditionOf>[0]) =>
    conditionOf(record, { now: now(), leeway })

  return {
    peek: () => {
      const known = session.peek()
      if (!known) return
      const record = activeOf(known.record)
      if (!record) return signedOut(known.record)
      return conditionNow(record) === 'fresh' ? toResult(record) : undefined
    },

    get: async ({ keepAlive, canWait, onWait }) => {
      const record = await session.read()
      if (record?.status !== 'active') return signedOut(record)
      const condition = conditionNow(record)
      if (condition === 'fresh') return toResult(record)
      if (isPausing(record) && condition === 'ageing') return toResult(record)
      const renewing = renew({ spoiled: record.accessToken })
      // The request that waits may give up before the renewal has ended.
      keepAlive(renewing)
      if (!canWait || condition !== 'dead') return toResult(record)
      if (waiting >= mostWaiting) return notNow()
      onWait?.()
      waiting++
      const result = await renewing
      waiting--
      // Another user may have signed in during the wait for the lock.
      const isOurs = result.kind !== 'token' || result.owner === ownerOf(record)
      return isOurs ? result : userChanged()
    },

    backOnline: async () => {
      const record = activeOf(await session.readAgain())
      if (!record || conditionNow(record) === 'fresh') return
      const delay = random() * onlineSpread
      await renew({ spoiled: record.accessToken, impatient: true, delay })
    },
  }
}
