/**
 * What must hold for renewals: each is needed and keeps the pauses, one is under way at a time, and
 * the record says afterwards what the answer of the server means.
 */
import type { ActiveRecord } from '../../sw/session/records.js'
import type { Call } from './calls.js'
import { type Answer, bodyOf } from './model-server.js'
import type { Exchange } from './network.js'
import type { Surroundings } from './refresh-tokens.js'
import type { Owner, Scheduler } from './scheduler.js'

/** What a worker has done since it got the lock. */
interface Turn {
  /** It has asked pages for a hidden frame. */
  hasAskedForFrame?: boolean
  /** The server wants something else than the refresh token that it got. */
  isRefused?: boolean
  /** Somebody has signed in since, so what was decided before may be for another record. */
  isOvertaken?: boolean
  /** Its last commit: what the record was and is. */
  last?: { was: ActiveRecord; is: ActiveRecord }
  /** What its next commit has to write, after an answer. */
  expects?: (was: ActiveRecord, is: ActiveRecord) => string | undefined
}

/** A refresh or a hidden frame that a worker waits for. */
interface UnderWay {
  owner: Owner
  what: 'refresh' | 'frame'
  isOver: () => boolean
}

/** A token that is younger, in ms, is not renewed for its end. */
const leastInterval = 5_000
/** Older than that in ms by the clock, which was set back: nothing is known of a token. */
const tolerableSetback = 60_000
/** No pause is longer, in ms: 5 minutes as the server asks, and one of chance. */
const longestPause = { own: 60_000, asked: 360_000 }
/** ms from the event `online` until its renewal has begun: it may wait for the lock twice */
const onlineTakes = 60_000
/** ms from the moment in which a page asks for a renewal until the worker has read the record */
const readingTakes = 2_000

/** Says what a status means for a refresh token. */
const meaningOf = (exchange: Exchange, answer: Answer | undefined) => {
  if (!answer) return exchange.left ? 'unknown' : undefined
  const { access_token: accessToken, error } = bodyOf(answer)
  if (answer.status === 200) {
    const isJson = answer.headers?.['content-type'] === 'application/json'
    if (!isJson) return 'not acted'
    return typeof accessToken === 'string' ? 'tokens' : 'unreadable'
  }
  if (error === 'invalid_grant') return 'refused'
  if ([408, 429, 503, 511].includes(answer.status)) return 'not acted'
  return answer.status >= 500 ? 'unknown' : undefined
}

export const watchRenewals = (
  scheduler: Scheduler,
  { now, isClockSteady, isOnline, diskRefused, rotationGrace, leeway }: Surroundings,
  {
    activeRecord,
    openCalls,
    readingTime,
    fail,
  }: {
    /** The record as this worker has it. */
    activeRecord: (owner: Owner) => ActiveRecord | undefined
    openCalls: (owner: Owner, what: Call['what'], within?: number) => Call[]
    readingTime: () => number
    fail: (what: string) => void
  },
) => {
  const turns = new Map<Owner, Turn>()
  let underWay: UnderWay[] = []
  /** Access tokens that an API has answered 401 to. */
  const refusedAtApi = new Set<string>()
  /** Access tokens that a refresh has brought. */
  const refreshed = new Set<string>()
  /** When an access token became the present one, in virtual time. */
  const tokenSince = new Map<string | undefined, number>()

  const turnOf = (owner: Owner): Turn => {
    const turn = turns.get(owner) ?? {}
    turns.set(owner, turn)
    return turn
  }

  const begins = (what: UnderWay['what'], owner: Owner, isOver: () => boolean) => {
    underWay = underWay.filter((other) => !other.owner.dead && !other.isOver())
    const [other] = underWay
    if (other) {
      fail(`a ${what} of ${owner.name} begins while a ${other.what} of ${other.owner.name} runs`)
    }
    underWay.push({ owner, what, isOver })
  }

  const isFresh = (record: ActiveRecord): boolean => {
    const { accessToken, accessTokenIssuedAt: issuedAt, accessTokenExpiresAt: end } = record
    const age = now() - issuedAt
    if (accessToken === undefined || age < -tolerableSetback) return false
    if (age >= 0 && age < leastInterval) return true
    const left = (end ?? Infinity) - now()
    return left > 0 && left >= Math.min(leeway, ((end ?? Infinity) - issuedAt) / 2)
  }

  /** Has anything asked for another access token than this one? */
  const checkNeed = (what: string, owner: Owner, record: ActiveRecord) => {
    const { accessToken = '' } = record
    if (!isClockSteady() || !isFresh(record) || refusedAtApi.has(accessToken)) return
    const hasRead = ({ startedAt }: Call) =>
      startedAt + readingTakes + readingTime() >= (tokenSince.get(accessToken) ?? 0)
    if (openCalls(owner, 'renew').some(hasRead)) return
    fail(`${what}, but ${accessToken} is fresh, and nobody has asked for another one`)
  }

  const checkPause = (what: string, owner: Owner, { retry }: ActiveRecord) => {
    if (!retry || !isClockSteady()) return
    const left = retry.notBefore - now()
    if (left <= 0 || left > (retry.asked ? longestPause.asked : longestPause.own)) return
    if (retry.asked) fail(`${what} in the pause that the server has asked for`)
    const isWished =
      openCalls(owner, 'renew').length > 0 || openCalls(owner, 'online', onlineTakes).length > 0
    if (!isWished) fail(`${what} in the pause after a failure`)
  }

  /** What the record has to become after this answer. */
  const expectationAfter = (
    token: string,
    exchange: Exchange,
    { answer, sent }: { answer: Answer | undefined; sent: number | undefined },
  ): Turn['expects'] => {
    const meaning = meaningOf(exchange, answer)
    const wasOnline = isOnline()
    const pauses = (was: ActiveRecord, is: ActiveRecord) => {
      const asked = Number(answer?.headers?.['retry-after'] ?? 0) * 1000
      const isCounted = is.retry?.failures === (was.retry?.failures ?? 0) + 1
      const isLong = (is.retry?.notBefore ?? 0) >= now() - readingTakes + Math.min(asked, 300_000)
      if (wasOnline && !(isCounted && (isLong || !isClockSteady())))
        return 'is followed by no pause'
      return undefined
    }
    switch (meaning) {
      case 'tokens':
        return (_was, is) =>
          is.accessToken === bodyOf(answer!)['access_token'] && is.refreshSentAt === undefined
            ? undefined
            : 'has brought tokens: they are not stored, or the intent is still there'
      case 'refused':
        return (_was, is) =>
          is.refreshToken === undefined ? undefined : `is refused, but ${token} is still there`
      case 'not acted':
        return (was, is) =>
          is.refreshSentAt === sent ? pauses(was, is) : 'decides nothing, but the intent differs'
      case 'unreadable':
      case 'unknown':
        return (was, is) => {
          if (is.refreshSentAt !== was.refreshSentAt) return 'is unknown, but the intent is gone'
          // It may be what the server says each time.
          if (meaning === 'unreadable') return undefined
          if (is.silentLoginFailed) return 'is unknown, but frames from before still count'
          return pauses(was, is)
        }
      default:
        return undefined
    }
  }

  return {
    granted: (owner: Owner) => turns.set(owner, {}),
    released: (owner: Owner) => turns.delete(owner),
    kill: (owner: Owner) => turns.delete(owner),

    /** Has this worker asked for a hidden frame since it got the lock? */
    hasAskedForFrame: (owner: Owner) => turnOf(owner).hasAskedForFrame === true,

    asksForFrame: (owner: Owner) => {
      turnOf(owner).hasAskedForFrame = true
    },

    /** A worker has a page open a hidden frame. */
    frameOpens: (owner: Owner, purpose: string | undefined, isOver: () => boolean) => {
      begins('frame', owner, isOver)
      const record = activeRecord(owner)
      const turn = turnOf(owner)
      if (purpose !== 'silent' || !record || turn.isOvertaken) return
      checkNeed('a hidden frame was opened', owner, record)
      checkPause('a hidden frame was opened', owner, record)
      const { refreshToken, refreshSentAt } = record
      const sentSince = now() - (refreshSentAt ?? now())
      // A clock that was set back since: how long ago it was is unknown.
      const isInGrace = sentSince >= 0 && sentSince < rotationGrace
      const isRisky = refreshSentAt !== undefined && !isInGrace
      if (refreshToken === undefined || turn.isRefused || isRisky || !isClockSteady()) return
      fail(`a hidden frame was opened, but ${refreshToken} is good`)
    },

    sent: (token: string, owner: Owner) => {
      const turn = turnOf(owner)
      turn.expects = undefined
      let isOver = false
      begins('refresh', owner, () => isOver)
      const record = activeRecord(owner)
      if (record?.refreshToken === token && !turn.isOvertaken) {
        checkNeed(`${token} was sent`, owner, record)
        checkPause(`${token} was sent`, owner, record)
      }
      const { last } = turn
      /** The answer comes, or it is known that there will be none. */
      return (exchange: Exchange, answer?: Answer) => {
        isOver = true
        const status = answer?.status ?? 0
        const isUnreadable = meaningOf(exchange, answer) === 'unreadable'
        if (isUnreadable || (status >= 400 && status < 500)) turn.isRefused = true
        const sent = last?.was.refreshSentAt
        if (turns.get(owner) === turn && last) {
          turn.expects = expectationAfter(token, exchange, { answer, sent })
        }
        const accessToken = answer && bodyOf(answer)['access_token']
        if (typeof accessToken === 'string') refreshed.add(accessToken)
      }
    },

    refusedAtApi: (accessToken: string) => refusedAtApi.add(accessToken),

    /** The record of a session has changed. */
    stored: (was: ActiveRecord, is: ActiveRecord, owner: Owner | undefined) => {
      const isNew = was.accessToken !== is.accessToken
      if (isNew) tokenSince.set(is.accessToken, scheduler.time())
      const isSignIn = isNew && is.accessToken !== undefined && !refreshed.has(is.accessToken)
      // Several changes at once, of which the disk would not take the first ones.
      if (diskRefused()) {
        for (const turn of turns.values()) {
          Object.assign(turn, { isOvertaken: true, last: undefined, expects: undefined })
        }
        return
      }
      const isSame = was.refreshToken === is.refreshToken
      const [before, after] = [was.refreshSentAt, is.refreshSentAt]
      if (isSame && before !== undefined && after !== undefined && before !== after) {
        fail(`${is.refreshToken} was sent first at ${before}, but the record says ${after} now`)
      }
      if (isNew && !isSignIn && after !== undefined) {
        fail(`${is.accessToken} came by a refresh, but the record says that the outcome is unknown`)
      }
      if (isSignIn) for (const turn of turns.values()) turn.isOvertaken = true
      const turn = owner && turns.get(owner)
      if (!turn || isSignIn) return
      turn.last = { was, is }
      const { expects } = turn
      turn.expects = undefined
      const problem = expects?.(was, is)
      if (problem) fail(`the refresh of ${was.refreshToken} ${problem}`)
    },

    /** Somebody has signed in or out. */
    sessionChanged: (is: ActiveRecord | undefined) => {
      tokenSince.set(is?.accessToken, scheduler.time())
      for (const turn of turns.values()) turn.isOvertaken = true
    },
  }
}
