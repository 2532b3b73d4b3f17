import { asTokenError, TokenError } from '../../src/shared/errors.js'
import type { Config } from '../options/options.js'
import type { Platform } from '../platform.js'
import type { DpopKey } from '../server/dpop.js'
import { longestPause, longestWindow } from '../session/backoff.js'
import { hasLiveToken, type WorkerSession } from '../session/session.js'
import type { ActiveRecord, SessionRecord } from '../session/store.js'
import { withTimeLimit } from '../time-limit.js'
import type { Refresh } from './refresh.js'
import type { SilentLogin, SilentLoginOutcome } from './silent-login.js'

/** What a request gets: a token and whose it is, or why there is none. */
export type TokenResult =
  | { kind: 'token'; accessToken: string; owner: string; dpopKey?: DpopKey; reload?: boolean }
  /**
   * Nobody is signed in, or no longer: the API itself answers a request without a token. `reload`,
   * here as above: the browser may have cached answers for another user, so do not read them.
   */
  | { kind: 'signed-out'; reload?: boolean }
  /** Somebody is signed in, but there is no token to be had now. */
  | { kind: 'unavailable'; error: TokenError }

/** How long, in ms, a renewal waits for one that another worker has under way. */
const lockLimit = 20_000
/** Requests that may wait for a renewal at the same time; more would only pile up. */
const mostWaiting = 200
/** A token younger than this, in ms, is not renewed for its expiry again. */
const leastInterval = 5_000
/** Back online, clients come back within this time, in ms, and not all in its first second. */
const onlineSpread = 3_000

const notNow = (): TokenError =>
  new TokenError('timeout', 'The access token could not be renewed in time.')

/** Two sign-ins of one user are as good as one; without a subject, each is on its own. */
export const ownerOf = ({ user, session }: ActiveRecord): string => user ?? session

const toResult = (record: ActiveRecord): TokenResult =>
  record.accessToken === undefined
    ? { kind: 'unavailable', error: notNow() }
    : {
        kind: 'token',
        accessToken: record.accessToken,
        owner: ownerOf(record),
        dpopKey: record.dpopKey,
        reload: record.usersChanged,
      }

/** Where somebody was signed in before, what the browser has cached may be theirs. */
const signedOut = (record: SessionRecord | undefined): TokenResult => ({
  kind: 'signed-out',
  reload: record && true,
})

/** Never send one user's request with another one's token. */
const userChanged = (): TokenResult => {
  const error = new TokenError('user_changed', 'Another sign-in has replaced the session.')
  return { kind: 'unavailable', error }
}

/**
 * The access token for requests: from memory, else from the disk, else renewed. One renewal at a
 * time serves every request, tab and worker.
 */
export const createAccessToken = (
  {
    leeway,
    rotationGrace,
    lockName,
  }: Pick<Config, 'leeway' | 'rotationGrace'> & { lockName: string },
  session: WorkerSession,
  refresh: Refresh,
  silentLogin: SilentLogin,
  {
    now,
    lock,
    online,
    wait,
    random,
  }: Pick<Platform, 'now' | 'lock' | 'online' | 'wait' | 'random'>,
) => {
  let underWay:
    | { spoiled: string | undefined; patient: boolean; result: Promise<TokenResult> }
    | undefined
  let waiting = 0

  /** What a request that waited gets after somebody else has changed the session. */
  const afterChange = async (waitedFor: ActiveRecord): Promise<TokenResult> => {
    const latest = await session.readAgain()
    if (latest?.status !== 'active') {
      return latest?.reason === 'user_changed' ? userChanged() : signedOut(latest)
    }
    return ownerOf(latest) === ownerOf(waitedFor) ? toResult(latest) : userChanged()
  }

  /** `fresh`: use it. `ageing`: use it, and renew it meanwhile. `dead`: renew it first. */
  const condition = (record: ActiveRecord): 'fresh' | 'ageing' | 'dead' => {
    const { accessToken, accessTokenIssuedAt: issuedAt, accessTokenExpiresAt: expiresAt } = record
    const age = now() - issuedAt
    // Very short tokens: whether this one is over is for the API to say, with a 401.
    if (accessToken !== undefined && age >= 0 && age < leastInterval) return 'fresh'
    if (!hasLiveToken(record, now())) return 'dead'
    if (expiresAt === undefined) return 'fresh'
    const lifetime = expiresAt - issuedAt
    return lifetime - age < Math.min(leeway, lifetime / 2) ? 'ageing' : 'fresh'
  }

  /** Whoever is not patient ends a pause, unless the server has asked for it. */
  const isPausing = ({ retry }: ActiveRecord, patient = true): boolean => {
    if (!patient && !retry?.asked) return false
    const left = (retry?.notBefore ?? 0) - now()
    // More than there ever is to wait: the clock has been set back since.
    return left > 0 && left <= (retry?.asked ? longestPause : longestWindow)
  }

  /** Could this token harm, if it is sent again? Not while the server takes it a second time. */
  const isRisky = (record: ActiveRecord): boolean => {
    const { refreshSentAt } = record
    if (refreshSentAt === undefined || refresh.isAnswered(record)) return false
    const age = now() - refreshSentAt
    return age < 0 || age >= rotationGrace
  }

  /** `why`: what the refresh said. `tried`: how a silent login has ended that came before it. */
  const renewSilently = async (
    record: ActiveRecord,
    why?: TokenError,
    tried?: SilentLoginOutcome,
  ): Promise<TokenResult> => {
    const answer = tried ?? (await silentLogin({ purpose: 'renew', record }))
    if (answer.kind === 'signed-in') return toResult(answer.record)
    const latest = await session.readAgain()
    const isSame = latest?.status === 'active' && latest.session === record.session
    if (answer.kind === 'superseded' || !isSame) return await afterChange(record)
    // The server knows no user, and no refresh token is left that could prove it wrong.
    if (answer.kind === 'refused' && latest.refreshToken === undefined) {
      await session.end('ended', record.session)
      return signedOut(record)
    }
    const error = answer.kind === 'refused' ? (why ?? answer.error) : answer.error
    // Offline, a sign-in would not help.
    if (error.code !== 'offline') await session.requireLogin(record.session, error)
    return { kind: 'unavailable', error }
  }

  /** Renews from the record as it is under the lock. */
  const renewRecord = async (record: ActiveRecord): Promise<TokenResult> => {
    if (record.refreshToken === undefined) return await renewSilently(record)
    let tried: SilentLoginOutcome | undefined
    if (isRisky(record) && record.silentLoginWorks && online()) {
      // Sending a token again that the server may have replaced makes a strict server revoke
      // everything, so the way that cannot do harm comes first.
      tried = await silentLogin({ purpose: 'renew', record })
      if (tried.kind === 'signed-in') return toResult(tried.record)
      if (tried.kind === 'superseded') return await afterChange(record)
    }
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
        return await renewSilently(record, outcome.error, tried)
    }
  }

  const renewLocked = async (spoiled: string | undefined, patient: boolean) => {
    const record = await session.readAgain()
    if (record?.status !== 'active') return signedOut(record)
    const isOther = record.accessToken !== undefined && record.accessToken !== spoiled
    if (isOther && condition(record) !== 'dead') return toResult(record)
    if (isPausing(record, patient)) return { kind: 'unavailable', error: notNow() } as const
    await session.setRenewing(true, record)
    try {
      return await renewRecord(record)
    } finally {
      // Memory may have let go of it: a renewal that fails can take long.
      await session.setRenewing(false, await session.read().catch(() => undefined))
    }
  }

  /** Runs work that changes how the user is signed in, one at a time in the whole browser. */
  const exclusively = async <T>(work: () => Promise<T>): Promise<T> => {
    const done = await withTimeLimit(wait, lockLimit, (late, enough) =>
      lock(lockName, late, async () => {
        enough()
        return { value: await work() }
      }),
    )
    if (!done) throw notNow()
    return done.value
  }

  /**
   * Renews, unless the record by now holds a live token other than `spoiled`. `patient`: not
   * before the pause after failures is over. `delay`: ms until it begins; whoever needs a token
   * meanwhile waits for this renewal.
   */
  const renew = async (
    spoiled: string | undefined,
    patient = true,
    delay = 0,
  ): Promise<TokenResult> => {
    const joined = underWay
    underWay ??= {
      spoiled,
      patient,
      result: (delay ? wait(delay) : Promise.resolve())
        .then(() => exclusively(() => renewLocked(spoiled, patient)))
        .catch(async (cause): Promise<TokenResult> => {
          const error = asTokenError(cause, 'worker_timeout', 'Renewing failed.')
          // Late is not wrong; but a disk that fails must not do so in silence.
          if (error.code !== 'timeout') await session.tellProblem(error).catch(() => {})
          return { kind: 'unavailable', error }
        })
        .finally(() => {
          underWay = undefined
        }),
    }
    const result = await underWay.result
    // The renewal that was joined was for an older token, and ended with the spoiled one; or it
    // has kept a pause that this one need not keep.
    const isUseless =
      result.kind === 'token'
        ? joined?.spoiled !== spoiled && result.accessToken === spoiled
        : result.kind === 'unavailable' && joined?.patient && !patient
    return joined && isUseless ? await renew(spoiled, patient, delay) : result
  }

  return {
    /** The token, if memory has a fresh one: synchronous, for the hot path. */
    peek: (): TokenResult | undefined => {
      const record = session.peek()
      return record?.status === 'active' && condition(record) === 'fresh'
        ? toResult(record)
        : undefined
    },

    /**
     * The token for one request. Work that goes on behind it is handed to `keepAlive`; with
     * `canWait` false an expired token is given out rather than waited for; `onWait` is called
     * when a renewal is.
     */
    get: async (
      keepAlive: (work: Promise<unknown>) => void,
      canWait: boolean,
      onWait?: () => void,
    ): Promise<TokenResult> => {
      const record = await session.read()
      if (record?.status !== 'active') return signedOut(record)
      const state = condition(record)
      if (state === 'fresh') return toResult(record)
      if (isPausing(record) && state === 'ageing') return toResult(record)
      const renewal = renew(record.accessToken)
      // Whoever waits may give up before the renewal has ended.
      keepAlive(renewal)
      if (canWait && state === 'dead') {
        if (waiting >= mostWaiting) return { kind: 'unavailable', error: notNow() }
        onWait?.()
        waiting++
        const result = await renewal
        waiting--
        // The wait may have been for the lock, while somebody else signed in.
        const isOurs = result.kind !== 'token' || result.owner === ownerOf(record)
        return isOurs ? result : userChanged()
      }
      return toResult(record)
    },

    /** The network is back: renews a token that needs it, so that requests find a fresh one. */
    backOnline: async (): Promise<void> => {
      const record = await session.readAgain()
      if (record?.status !== 'active' || condition(record) === 'fresh') return
      await renew(record.accessToken, false, random() * onlineSpread)
    },

    renew,
    exclusively,
  }
}

export type AccessToken = ReturnType<typeof createAccessToken>
