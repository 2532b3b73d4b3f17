import { isTokenError, TokenError } from '../src/shared/errors.js'
import type { Platform } from './platform.js'
import type { Refresh } from './refresh.js'
import { hasLiveToken, type WorkerSession } from './session.js'
import type { SilentLogin } from './silent-login.js'
import type { ActiveRecord, SessionRecord } from './store.js'

/** An access token, and the sign-in it belongs to. */
export interface Grant {
  accessToken: string
  session: string
}

/** What a request gets: a token, or why there is none. */
export type TokenResult =
  | ({ kind: 'token' } & Grant)
  /** Nobody is signed in. */
  | { kind: 'signed-out' }
  /** The session was ended while this was waiting for a token. */
  | { kind: 'ended' }
  /** Somebody is signed in, but there is no token to be had now. */
  | { kind: 'unavailable'; error: TokenError }

/** How long, in ms, a renewal waits for one that another worker has under way. */
const lockLimit = 20_000
/** A token younger than this, in ms, is not renewed for its expiry again. */
const leastInterval = 5_000

/**
 * The access token for requests: from memory, else from the disk, else renewed. One renewal at a
 * time serves every request, tab and worker.
 */
export const createAccessToken = (
  { leeway, lockName }: { leeway: number; lockName: string },
  session: WorkerSession,
  refresh: Refresh,
  silentLogin: SilentLogin,
  { now, lock, online, wait }: Pick<Platform, 'now' | 'lock' | 'online' | 'wait'>,
) => {
  let underWay: Promise<TokenResult> | undefined

  const toResult = ({ accessToken, session }: ActiveRecord): TokenResult =>
    accessToken === undefined
      ? { kind: 'unavailable', error: notNow() }
      : { kind: 'token', accessToken, session }

  const notNow = () =>
    new TokenError('timeout', 'The access token could not be renewed in time.', { transient: true })

  /** What a request that waited gets after somebody else has changed the session. */
  const afterChange = async (waitedFor: ActiveRecord): Promise<TokenResult> => {
    const latest = await session.readAgain()
    if (latest?.status !== 'active') return { kind: 'ended' }
    if (latest.session === waitedFor.session) return toResult(latest)
    // Never send one user's request with another one's token.
    const error = new TokenError('user_changed', 'Another sign-in has replaced the session.')
    return { kind: 'unavailable', error }
  }

  /** `fresh`: use it. `ageing`: use it, and renew it meanwhile. `dead`: renew it first. */
  const condition = (record: ActiveRecord): 'fresh' | 'ageing' | 'dead' => {
    const { accessToken, accessTokenIssuedAt: issuedAt, accessTokenExpiresAt: expiresAt } = record
    const time = now()
    const isNew = time >= issuedAt && time - issuedAt < leastInterval
    // Very short tokens: whether this one is over is for the API to say, with a 401.
    if (accessToken !== undefined && isNew) return 'fresh'
    if (!hasLiveToken(record, time)) return 'dead'
    if (expiresAt === undefined) return 'fresh'
    return expiresAt - time < Math.min(leeway, (expiresAt - issuedAt) / 2) ? 'ageing' : 'fresh'
  }

  const isWaitingToRetry = ({ retry }: ActiveRecord): boolean => {
    if (!retry) return false
    const left = retry.notBefore - now()
    // More than is ever asked for: the clock was set back, the time means nothing.
    return left > 0 && left < 600_000
  }

  /** Renews under the lock, from the record as it is there; `spoiled` is a token of no use. */
  const renewRecord = async (record: ActiveRecord): Promise<TokenResult> => {
    const silently = async (why: TokenError | undefined): Promise<TokenResult> => {
      const answer = await silentLogin({ purpose: 'renew', record })
      if (answer.kind === 'signed-in') return toResult(answer.record)
      if (answer.kind === 'superseded') return await afterChange(record)
      const latest = await session.readAgain()
      if (latest?.status !== 'active' || latest.session !== record.session) {
        return await afterChange(record)
      }
      // The server knows no user, and no refresh token is left that could prove it wrong.
      if (answer.kind === 'refused' && latest.refreshToken === undefined) {
        await session.end(record.session, 'ended')
        return { kind: 'ended' }
      }
      const error = why && answer.kind === 'refused' ? why : answer.error
      await session.requireLogin(record.session, error)
      return { kind: 'unavailable', error }
    }

    const resend = async (): Promise<TokenResult> => {
      const outcome = await refresh(record)
      switch (outcome.kind) {
        case 'renewed':
          await session.tell('renewed', outcome.record)
          return toResult(outcome.record)
        case 'superseded':
          return await afterChange(record)
        case 'failed':
          return { kind: 'unavailable', error: outcome.error }
        case 'refused':
        case 'not-now':
          return await silently(outcome.error)
      }
    }

    if (record.refreshToken === undefined) return await silently(undefined)
    const outcomeUnknown = record.refreshSentAt !== undefined
    if (outcomeUnknown && record.silentLoginWorks && online()) {
      // Sending a token again that the server may have replaced makes a strict server revoke
      // everything, so the way that cannot do harm comes first.
      const answer = await silentLogin({ purpose: 'renew', record })
      if (answer.kind === 'signed-in') return toResult(answer.record)
      if (answer.kind === 'superseded') return await afterChange(record)
    }
    return await resend()
  }

  const renewLocked = async (
    spoiled: string | undefined,
    patient: boolean,
  ): Promise<TokenResult> => {
    const record = await session.readAgain()
    if (record?.status !== 'active') return { kind: 'signed-out' }
    const isOther = record.accessToken !== undefined && record.accessToken !== spoiled
    if (isOther && condition(record) !== 'dead') return toResult(record)
    if (patient && isWaitingToRetry(record)) return { kind: 'unavailable', error: notNow() }
    await session.setRenewing(true, record)
    try {
      return await renewRecord(record)
    } finally {
      const latest = session.peek()
      if (latest?.status === 'active') await session.setRenewing(false, latest)
    }
  }

  /** Runs work that changes how the user is signed in, one at a time in the whole browser. */
  const exclusively = async <T>(work: () => Promise<T>): Promise<T> => {
    const giveUp = new AbortController()
    const waited = new AbortController()
    wait(lockLimit, waited.signal).then(
      () => giveUp.abort(notNow()),
      () => {},
    )
    try {
      return await lock(lockName, giveUp.signal, () => {
        waited.abort()
        return work()
      })
    } finally {
      waited.abort()
    }
  }

  const run = async (spoiled: string | undefined, patient: boolean): Promise<TokenResult> => {
    try {
      return await exclusively(() => renewLocked(spoiled, patient))
    } catch (cause) {
      const error = isTokenError(cause)
        ? cause
        : new TokenError('worker_timeout', 'Renewing failed.', { transient: true, cause })
      return { kind: 'unavailable', error }
    }
  }

  /**
   * Renews, unless the record by now holds a live token other than `spoiled`. `patient`: not
   * before the pause after failures is over.
   */
  const renew = async (spoiled: string | undefined, patient = true): Promise<TokenResult> => {
    const joined = underWay !== undefined
    underWay ??= run(spoiled, patient).finally(() => {
      underWay = undefined
    })
    const result = await underWay
    // The renewal that was joined was for an older token, and ended with the spoiled one.
    const useless = joined && result.kind === 'token' && result.accessToken === spoiled
    return useless ? await renew(spoiled, patient) : result
  }

  const fresh = (record: SessionRecord | undefined): Grant | undefined =>
    record?.status === 'active' && record.accessToken !== undefined && condition(record) === 'fresh'
      ? { accessToken: record.accessToken, session: record.session }
      : undefined

  return {
    /** The token, if memory has a fresh one: synchronous, for the hot path. */
    peek: (): Grant | undefined => fresh(session.peek()),

    /**
     * The token for one request. Work that goes on behind it is handed to `keepAlive`; with
     * `canWait` false an expired token is given out rather than waited for.
     */
    get: async (
      keepAlive: (work: Promise<unknown>) => void,
      canWait: boolean,
    ): Promise<TokenResult> => {
      const record = await session.read()
      if (record?.status !== 'active') return { kind: 'signed-out' }
      const state = condition(record)
      if (state === 'fresh') return toResult(record)
      const renewal =
        isWaitingToRetry(record) && state === 'ageing' ? undefined : renew(record.accessToken)
      if (renewal && (state === 'ageing' || !canWait)) keepAlive(renewal)
      if (state === 'ageing' || (!canWait && record.accessToken !== undefined)) {
        return toResult(record)
      }
      return (await renewal) ?? { kind: 'unavailable', error: notNow() }
    },

    renew,
    exclusively,
  }
}

export type AccessToken = ReturnType<typeof createAccessToken>
