/**
 * What must hold at every step. It sees each request and answer, each commit of the session record
 * and each call, and compares them with what the model server knows.
 */
import type { SessionRecord } from '../../sw/session/records.js'
import type { Store } from '../../sw/session/store.js'
import { watchCalls } from './calls.js'
import { watchMemory } from './memory.js'
import { type Answer, bodyOf, type ModelServer, subjectOfIdToken } from './model-server.js'
import type { Exchange } from './network.js'
import { type Surroundings, watchRefreshTokens } from './refresh-tokens.js'
import { watchRenewals } from './renewals.js'
import { watchRequests } from './requests.js'
import { watchRevocations } from './revocations.js'
import type { Owner, Scheduler } from './scheduler.js'
import { watchSessions } from './sessions.js'

/** Watches one run; the first thing that does not hold is its failure. */
export const createInvariants = (
  scheduler: Scheduler,
  server: ModelServer,
  surroundings: Surroundings,
  /** How long a worker may take, in ms, until it has read who is signed in. */
  readingTime: () => number,
  /** Somebody else than the last user is about to be signed in. */
  onOtherUser: () => void,
) => {
  let failure: string | undefined
  let lastSubject: string | undefined

  const fail = (what: string) => {
    failure ??= what
    scheduler.note(`!! ${what}`)
  }

  const calls = watchCalls(scheduler, () => readingTime() > 0, fail)
  const { isClockRight, diskRefused, inMemory } = surroundings
  const isLoggingOut = (owner: Owner) => calls.of(owner, 'logout', 60_000).length > 0
  const sessions = watchSessions(scheduler, server, { isLoggingOut, diskRefused, inMemory }, fail)
  const { active, record } = sessions
  const memory = watchMemory(fail)
  const activeOf = (owner: Owner) => (inMemory ? memory.viewOf(active(), owner) : active())
  const renewals = watchRenewals(scheduler, surroundings, {
    activeRecord: activeOf,
    openCalls: calls.of,
    readingTime,
    fail,
  })
  const refreshTokens = watchRefreshTokens(
    server,
    surroundings,
    activeOf,
    renewals.hasAskedForFrame,
    fail,
  )
  const revocations = watchRevocations(scheduler, server, {
    record,
    isClockRight,
    diskRefused,
    fail,
  })
  const subject = () => active()?.subject
  const requests = watchRequests(scheduler, server, readingTime, subject, fail)
  /** What waits for the answer to a refresh. */
  const refreshes = new Map<Exchange, (exchange: Exchange, answer?: Answer) => void>()

  /** What has been redeemed, or tried to. */
  const codes = new Set<string>()

  const refreshTokenOf = ({ kind, params }: Exchange) =>
    kind === 'token' ? params.get('refresh_token') : null

  const signInEnded = ({ owner, params }: Exchange, answer: Answer) => {
    const body = bodyOf(answer)
    if (answer.status !== 200 || typeof body['access_token'] !== 'string') return
    const code = params.get('code') ?? ''
    const arrival = { owner, code, subject: subjectOfIdToken(body['id_token']) }
    sessions.signedIn(body['access_token'], arrival)
    if (typeof body['refresh_token'] === 'string') refreshTokens.signInEnded(body['refresh_token'])
  }

  const metadataEnded = ({ owner, url }: Exchange, answer?: Answer) => {
    if (url.pathname.startsWith('/.well-known/') && answer?.status !== 200) {
      revocations.unreachable(owner)
    }
  }

  return {
    failure: () => failure,
    fail,
    calls,
    requests,
    record,
    refreshUnderWay: refreshTokens.underWay,
    asksForFrame: renewals.asksForFrame,
    frameOpens: renewals.frameOpens,
    frameAnswered: sessions.frameAnswered,
    told: sessions.told,

    lock: {
      granted: renewals.granted,
      released: (owner: Owner) => {
        renewals.released(owner)
        revocations.settled({ refreshOf: owner })
      },
    },

    /** A worker has answered the navigation that brought this code. */
    callbackEnded: (code: string) => {
      sessions.signInEnded(code)
      revocations.settled({ code })
    },

    /** The store of a worker, watched where it keeps tokens off the disk. */
    watchStore: (store: Store, owner: Owner): Store =>
      inMemory ? memory.watch(store, owner) : store,

    /** A transaction that could change the session record has been committed. */
    committed: (onDisk: SessionRecord | undefined, owner: Owner | undefined) => {
      const last = sessions.record()
      if (onDisk?.generation === last?.generation) return
      if (!onDisk) return fail('the session record has vanished')
      const { before, after } =
        inMemory && owner ? memory.committed(onDisk, owner) : { before: last, after: onDisk }
      if (after.status === 'active' && after.subject !== lastSubject) {
        if (lastSubject !== undefined) onOtherUser()
        lastSubject = after.subject
      }
      const { was, is } = sessions.stored(after, { before, by: owner })
      revocations.stored(was, after, owner)
      if (was && is && was.session === is.session) {
        refreshTokens.stored(was, is)
        renewals.stored(was, is, owner)
      } else renewals.sessionChanged(is)
      const reason = after.status === 'ended' ? after.reason : undefined
      requests.stored(was?.subject, is?.subject, reason)
    },

    /** A worker sends a request. */
    sent: (exchange: Exchange) => {
      const { owner, kind, url, params, accessToken } = exchange
      const token = refreshTokenOf(exchange)
      if (token !== null) {
        refreshTokens.sent(token, owner)
        refreshes.set(exchange, renewals.sent(token, owner))
      }
      if (kind === 'api') {
        requests.sent(exchange)
        if (accessToken !== undefined) sessions.usedAtApi(accessToken)
      }
      const code = params.get('code')
      if (kind === 'token' && code !== null) {
        if (codes.has(code)) fail(`${code} was sent to the server again`)
        codes.add(code)
      }
      if (url.pathname === '/revoke') revocations.sent(params.get('token') ?? '')
    },

    /** It gets an answer, or knows that there will be none. */
    ended: (exchange: Exchange, answer?: Answer) => {
      const token = refreshTokenOf(exchange)
      // It has not looked at the code.
      const isProofWanted = answer && bodyOf(answer)['error'] === 'use_dpop_nonce'
      if (isProofWanted) codes.delete(exchange.params.get('code') ?? '')
      if (exchange.kind === 'token' && answer) revocations.arrived(exchange, answer)
      if (token !== null) {
        refreshTokens.ended(token, exchange, answer)
        refreshes.get(exchange)?.(exchange, answer)
        refreshes.delete(exchange)
      } else if (exchange.kind === 'token' && answer) signInEnded(exchange, answer)
      if (exchange.kind === 'other') metadataEnded(exchange, answer)
      if (exchange.kind === 'api') {
        requests.ended(exchange)
        const isProof = answer?.headers?.['www-authenticate']?.includes('dpop')
        if (answer?.status === 401 && !isProof) renewals.refusedAtApi(exchange.accessToken ?? '')
      }
    },

    /** A worker has died. */
    kill: (owner: Owner) => {
      refreshTokens.kill(owner)
      renewals.kill(owner)
      revocations.kill(owner)
      sessions.kill(owner)
      calls.kill(owner)
    },

    /** Everything has settled. */
    settled: () => {
      revocations.check()
      sessions.check()
    },
  }
}

export type Invariants = ReturnType<typeof createInvariants>
