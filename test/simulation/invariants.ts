/**
 * What must hold at every step. It sees each request and answer, each commit of the session record
 * and each call, and compares them with what the model server knows.
 */
import type { SessionRecord } from '../../sw/session/records.js'
import { watchCalls } from './calls.js'
import { type Answer, bodyOf, type ModelServer, subjectOfIdToken } from './model-server.js'
import type { Exchange } from './network.js'
import { type Surroundings, watchRefreshTokens } from './refresh-tokens.js'
import { watchRequests } from './requests.js'
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
  const sessions = watchSessions(scheduler, server, calls.logouts, fail)
  const { active } = sessions
  const refreshTokens = watchRefreshTokens(scheduler, server, surroundings, active, fail)
  const subject = () => active()?.subject
  const requests = watchRequests(scheduler, server, readingTime, subject, fail)

  const refreshTokenOf = ({ kind, params }: Exchange) =>
    kind === 'token' ? params.get('refresh_token') : null

  const signInEnded = (answer: Answer) => {
    const body = bodyOf(answer)
    if (answer.status !== 200 || typeof body['access_token'] !== 'string') return
    sessions.signedIn(body['access_token'], subjectOfIdToken(body['id_token']))
    if (typeof body['refresh_token'] === 'string') refreshTokens.signInEnded(body['refresh_token'])
  }

  return {
    failure: () => failure,
    fail,
    calls,
    requests,
    record: sessions.record,
    refreshUnderWay: refreshTokens.underWay,
    silentLogin: refreshTokens.silentLogin,
    frameAnswered: sessions.frameAnswered,
    told: sessions.told,

    /** A transaction that could change the session record has been committed. */
    committed: (after: SessionRecord | undefined) => {
      const before = sessions.record()
      if (after?.generation === before?.generation) return
      if (!after) return fail('the session record has vanished')
      if (after.status === 'active' && after.subject !== lastSubject) {
        if (lastSubject !== undefined) onOtherUser()
        lastSubject = after.subject
      }
      const { was, is } = sessions.stored(after)
      if (was && is && was.session === is.session) refreshTokens.stored(was, is)
      requests.stored(was?.subject, is?.subject)
    },

    /** A worker sends a request. */
    sent: (exchange: Exchange) => {
      const token = refreshTokenOf(exchange)
      if (token !== null) refreshTokens.sent(token, exchange.owner)
      if (exchange.kind === 'api') requests.sent(exchange)
    },

    /** It gets an answer, or knows that there will be none. */
    ended: (exchange: Exchange, answer?: Answer) => {
      const token = refreshTokenOf(exchange)
      if (token !== null) refreshTokens.ended(token, exchange, answer)
      else if (exchange.kind === 'token' && answer) signInEnded(answer)
      if (exchange.kind === 'api') requests.ended(exchange)
    },

    /** A worker has died. */
    kill: (owner: Owner) => {
      refreshTokens.kill(owner)
      calls.kill(owner)
    },
  }
}

export type Invariants = ReturnType<typeof createInvariants>
