import { asTokenError, type InteractionCode, type TokenError } from '../../src/shared/errors.js'
import type { Platform } from '../platform.js'
import { hasGoodToken, ownerOf } from '../session/active-record.js'
import { longestPause, longestWindow } from '../session/backoff.js'
import { type ActiveRecord, activeOf } from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Store } from '../session/store.js'
import { withTimeLimit } from '../time-limit.js'
import { ageOf } from '../values/age.js'
import type { Refresh } from './refresh.js'
import type { SilentLogin, SilentLoginOutcome } from './silent-login.js'
import {
  conditionOf,
  notNow,
  signedOut,
  type TokenResult,
  toResult,
  userChanged,
} from './token-result.js'

/** A wish for a new access token. */
export interface RenewalRequest {
  /** The token that no longer does; another live one is taken instead of a renewal. */
  spoiled: string | undefined
  /** An API has refused it. */
  refused?: boolean
  /** Cuts a backoff short, once in a while, and never one set by Retry-After. */
  impatient?: boolean
  /** ms until it begins; a request that needs a token meanwhile waits for this renewal. */
  delay?: number
}

/** Renewing: one renewal at a time serves every request, tab and worker. */
export interface Renewal {
  /** Renews, unless the record by now holds a live token other than `spoiled`. */
  renew(request: RenewalRequest): Promise<TokenResult>
  /** Is the next renewal of this record to wait? */
  isPausing(record: ActiveRecord): boolean
  /** Runs work that changes how the user is signed in, one at a time in the whole browser. */
  exclusively<T>(work: () => Promise<T>): Promise<T>
}

/** What renewing needs of the configuration. */
export interface RenewalConfig {
  /** ms before its end from which a token is renewed */
  leeway: number
  /** ms for which the server takes a refresh token that it has replaced */
  rotationGrace: number
}

/** How long, in ms, a renewal waits for one that another worker has under way. */
const lockLimit = 20_000
/** Impatient callers cut a pause short once in so many ms: more often they would hammer a server. */
const impatienceRest = 10_000

const createPauses = (now: Platform['now']) => {
  let cutShortAt = Number.NEGATIVE_INFINITY
  return {
    isPausing: ({ retry }: ActiveRecord): boolean => {
      const left = (retry?.notBefore ?? 0) - now()
      // A pause that is longer than any: the clock has been set back since.
      return left > 0 && left <= (retry?.asked ? longestPause : longestWindow)
    },

    /** Does the pause of this record hold for an impatient caller as well? */
    isFirm: ({ retry }: ActiveRecord): boolean => {
      if (retry?.asked || ageOf(cutShortAt, now()) < impatienceRest) return true
      cutShortAt = now()
      return false
    },
  }
}

/** Creates the renewal. Its lock is one for the whole origin. */
export function createRenewal({
  config: { leeway, rotationGrace },
  store,
  session,
  refresh,
  silentLogin,
  platform: { now, lock, online, wait },
}: {
  config: RenewalConfig
  store: Pick<Store, 'name'>
  session: WorkerSession
  refresh: Refresh
  silentLogin: SilentLogin
  platform: Pick<Platform, 'now' | 'lock' | 'online' | 'wait'>
}): Renewal {
  let underWay: (RenewalRequest & { result: Promise<TokenResult> }) | undefined

  const { isPausing, isFirm } = createPauses(now)

  const renewLocked = async (request: RenewalRequest): Promise<TokenResult> => {
    const { spoiled, refused, impatient } = request
    let record = await session.readAgain()
    if (record?.status !== 'active') return signedOut(record)
    const isOther = record.accessToken !== undefined && record.accessToken !== spoiled
    if (isOther && conditionOf(record, { now: now(), leeway }) !== 'dead') return toResult(record)
    const isNews = refused && hasGoodToken(record, now())
    if (isNews) record = await markRefused(record, session)
    if (isPausing(record) && (!impatient || isFirm(record))) {
      if (isNews) await session.publish('state', record)
      return notNow()
    }
    await session.setRenewing(true, record)
    try {
      return await renewRecord(record, { session, refresh, silentLogin, isRisky, online })
    } finally {
      // A renewal that fails can take long, so memory may no longer have the record.
      await session.setRenewing(false, await session.read().catch(() => undefined))
    }
  }

  /** Can it do harm to send this refresh token again? Not within the server's grace. */
  const isRisky = (record: ActiveRecord): boolean => {
    const { refreshSentAt } = record
    if (refreshSentAt === undefined || refresh.isAnswered(record)) return false
    return ageOf(refreshSentAt, now()) >= rotationGrace
  }

  const exclusively = async <T>(work: () => Promise<T>): Promise<T> => {
    const done = await withTimeLimit(wait, lockLimit, (late, enough) =>
      lock(`${store.name} renew`, late, async () => {
        enough()
        return { value: await work() }
      }),
    )
    if (!done) throw notNow().error
    return done.value
  }

  const begin = async (request: RenewalRequest): Promise<TokenResult> => {
    try {
      if (request.delay) await wait(request.delay)
      return await exclusively(() => renewLocked(request))
    } catch (cause) {
      const error = asTokenError(cause, 'worker_timeout', 'Renewing failed.')
      // No cause but this one would say it: storage that fails, a lock that somebody keeps.
      await session.reportProblem(error).catch(() => {})
      return { kind: 'unavailable', error }
    }
  }

  const renew = async (request: RenewalRequest): Promise<TokenResult> => {
    const joined = underWay
    underWay ??= {
      ...request,
      result: begin(request).finally(() => {
        underWay = undefined
      }),
    }
    const result = await underWay.result
    const { spoiled, refused, impatient } = request
    // The renewal that was joined was for an older token, and ended with the spoiled one; or it
    // has kept a backoff that this one skips; or nobody has written down that the token is refused.
    const isUseless =
      result.kind === 'token'
        ? joined?.spoiled !== spoiled && result.accessToken === spoiled
        : result.kind === 'unavailable' &&
          ((!joined?.impatient && impatient) || (!joined?.refused && refused))
    return joined && isUseless ? await renew(request) : result
  }

  return { renew, isPausing, exclusively }
}

/** Writes down that an API refuses the token: pages must not take it for good meanwhile. */
const markRefused = async (
  record: ActiveRecord,
  session: Pick<WorkerSession, 'changeOwn'>,
): Promise<ActiveRecord> => {
  const { accessTokenIssuedAt: accessTokenRefused } = record
  const marked = await session.changeOwn(record.session, (current) =>
    current.accessToken === record.accessToken ? { ...current, accessTokenRefused } : undefined,
  )
  return marked ?? record
}

interface Ways {
  session: Pick<WorkerSession, 'readAgain' | 'end' | 'requireLogin' | 'publish'>
  refresh: Refresh
  silentLogin: SilentLogin
  isRisky(record: ActiveRecord): boolean
  online(): boolean
}

/** Renews from the record as it is under the lock: by a refresh, by a silent login, or by both. */
const renewRecord = async (record: ActiveRecord, ways: Ways): Promise<TokenResult> => {
  const { session, refresh, silentLogin, isRisky, online } = ways
  if (record.refreshToken === undefined) return await renewSilently(record, ways)
  let tried: SilentLoginOutcome | undefined
  if (isRisky(record) && record.silentLoginWorks && online()) {
    // Sending a token again that the server may have replaced makes a strict server revoke
    // everything, so the way that cannot do harm comes first.
    tried = await silentLogin({ purpose: 'renew', record })
    if (tried.kind === 'signed-in') return toResult(tried.record)
    if (tried.kind === 'superseded') return await afterChange(record, ways)
  }
  const outcome = await refresh(record)
  switch (outcome.kind) {
    case 'renewed':
      await session.publish('renewed', outcome.record)
      return toResult(outcome.record)
    case 'superseded':
      return await afterChange(record, ways)
    case 'failed':
      return { kind: 'unavailable', error: outcome.error }
    case 'refused':
      return await renewSilently(record, ways, { why: outcome.error, tried })
  }
}

/** `why`: the answer of the refresh. `tried`: how the silent login before it has ended. */
const renewSilently = async (
  record: ActiveRecord,
  ways: Ways,
  { why, tried }: { why?: TokenError; tried?: SilentLoginOutcome } = {},
): Promise<TokenResult> => {
  const { session, silentLogin } = ways
  const answer = tried ?? (await silentLogin({ purpose: 'renew', record }))
  if (answer.kind === 'signed-in') return toResult(answer.record)
  const latest = activeOf(await session.readAgain())
  const isSame = latest?.session === record.session
  if (answer.kind === 'superseded' || !latest || !isSame) return await afterChange(record, ways)
  // The server knows no user, and no refresh token is left that could prove it wrong.
  if (answer.kind === 'refused' && latest.refreshToken === undefined) {
    await session.end('ended', record.session, answer.error.code as InteractionCode)
    return signedOut(record)
  }
  // What the token endpoint wants says more than that no frame was asked.
  const isWhy = answer.kind === 'refused' || answer.error.code === 'silent_login_off'
  const error = isWhy ? (why ?? answer.error) : answer.error
  // Offline, a sign-in would not help.
  if (error.code !== 'offline') await session.requireLogin(record.session, error)
  return { kind: 'unavailable', error }
}

/** What a request that waited gets after the session has changed. */
const afterChange = async (waitedFor: ActiveRecord, { session }: Ways): Promise<TokenResult> => {
  const latest = await session.readAgain()
  if (latest?.status !== 'active') {
    return latest?.reason === 'user_changed' ? userChanged() : signedOut(latest)
  }
  return ownerOf(latest) === ownerOf(waitedFor) ? toResult(latest) : userChanged()
}
