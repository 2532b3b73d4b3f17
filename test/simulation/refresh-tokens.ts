/**
 * What must hold for refresh tokens: one worker sends one at a time, with the intent on disk; never
 * one that has been answered for; one of unknown outcome only where nothing safer was possible. Of a
 * token that is sent while the disk takes nothing, the next worker cannot know.
 */
import type { ActiveRecord } from '../../sw/session/records.js'
import { type Answer, bodyOf, type ModelServer } from './model-server.js'
import type { Exchange } from './network.js'
import type { Owner } from './scheduler.js'

/** After three hidden frames that brought nothing there need be none for five minutes. ms */
const silentLoginRests = { after: 3, for: 300_000 }

/** ms of nothing but refusals in other words, after which a refresh token counts as refused */
const proofAfter = 120_000

/** What decides whether a token of unknown outcome may be sent again. */
export interface Surroundings {
  /** The device's clock. */
  now(): number
  /** Has it not been set for a while? */
  isClockSteady(): boolean
  isClockRight(): boolean
  isOnline(): boolean
  /** Are tokens in the memory of each worker, and nowhere else? */
  inMemory: boolean
  /** Has there been a network, and a page that can run a hidden frame, for a while? */
  couldSignInSilently(): boolean
  /** Has the disk refused a write a short while ago? */
  diskRefused(): boolean
  /** For so long, in ms, a refresh token may be sent again without more ado. */
  rotationGrace: number
  /** ms before its end from which an access token is renewed */
  leeway: number
}

export const watchRefreshTokens = (
  server: ModelServer,
  { now, isClockSteady, couldSignInSilently, diskRefused, rotationGrace }: Surroundings,
  /** The record as this worker has it. */
  activeRecord: (owner: Owner) => ActiveRecord | undefined,
  /** Has this worker asked for a hidden frame since it got the lock? */
  hasAskedForFrame: (owner: Owner) => boolean,
  fail: (what: string) => void,
) => {
  const sending = new Map<string, Owner>()
  /** Sent, and nobody got an answer that decides about it. */
  const unknown = new Set<string>()
  /** How a living worker was told that it is over. */
  const answered = new Map<string, 'replaced' | 'refused'>()
  /** Answered, and that is on disk. */
  const settled = new Set<string>()
  /** What workers have got, by a refresh or by a sign-in. */
  const received = new Map<string, 'refresh' | 'sign-in'>()
  /** When a row of other refusals than `invalid_grant` began, and when the last one came. */
  const refusals = new Map<string, { first: number; last: number }>()
  /** Sent while nothing could be written. */
  const unwritten = new Set<string>()

  const isResting = ({ silentLoginFailed: failed }: ActiveRecord): boolean =>
    failed !== undefined &&
    failed.times >= silentLoginRests.after &&
    now() - failed.at < silentLoginRests.for

  const checkSending = (token: string, owner: Owner, record: ActiveRecord) => {
    if (diskRefused()) unwritten.add(token)
    if (unwritten.has(token)) return
    if (record.refreshSentAt === undefined) {
      return fail(`${token} was sent, but the intent is not stored`)
    }
    if (!unknown.has(token) || hasAskedForFrame(owner)) return
    // It was decided some steps of a slow disk ago.
    const isInGrace = now() - record.refreshSentAt < rotationGrace + 5_000
    const couldAsk = record.silentLoginWorks && couldSignInSilently() && !isResting(record)
    if (couldAsk && !isInGrace) {
      fail(`${token}, of unknown outcome, was sent again although a silent login could come first`)
    }
  }

  /** Did `next` come for `old`, or for one that came for it and that the disk has never had? */
  const isHeir = (next: string, old: string | undefined): boolean => {
    const parent = server.parentOf(next)
    if (parent === old) return true
    return parent !== undefined && unwritten.has(parent) && isHeir(parent, old)
  }

  /** An answer that is neither tokens nor "later" is a refusal, maybe; a row of them is one. */
  const noteRefusal = (token: string, answer: Answer) => {
    const { status, body = '' } = answer
    const isUnreadable = body.startsWith('{"') && bodyOf(answer)['access_token'] === undefined
    const isOne = (status >= 400 && status < 500 && status !== 429) || isUnreadable
    if (!isOne) return void refusals.delete(token)
    const first = Math.min(refusals.get(token)?.first ?? now(), now())
    refusals.set(token, { first, last: now() })
  }

  return {
    /** Is one at the server, with a worker that waits for the answer? */
    underWay: (): 'first' | 'again' | undefined => {
      for (const [token, owner] of sending) {
        if (!owner.dead) return unknown.has(token) ? 'again' : 'first'
      }
      return undefined
    },

    sent: (token: string, owner: Owner) => {
      // What one worker keeps while the disk takes nothing, another one cannot know.
      if (settled.has(token) && !unwritten.has(token)) {
        fail(`${token} was sent again: it had been ${answered.get(token)}`)
      }
      const other = sending.get(token)
      if (other && !other.dead) fail(`${owner.name} sent ${token} while ${other.name} had sent it`)
      sending.set(token, owner)
      const record = activeRecord(owner)
      if (record?.refreshToken === token) checkSending(token, owner, record)
      else if (diskRefused()) unwritten.add(token)
    },

    /** A worker gets an answer to a refresh, or knows that there will be none. */
    ended: (token: string, { owner, left }: Exchange, answer?: Answer) => {
      if (sending.get(token) === owner) sending.delete(token)
      if (!answer) {
        if (left) unknown.add(token)
        return
      }
      const { access_token: accessToken, refresh_token: next, error } = bodyOf(answer)
      if (!String(error).includes('dpop')) noteRefusal(token, answer)
      if (answer.status === 200 && typeof accessToken === 'string') {
        unknown.delete(token)
        if (typeof next !== 'string') return
        received.set(next, 'refresh')
        answered.set(token, 'replaced')
      } else if (error === 'invalid_grant') {
        unknown.delete(token)
        answered.set(token, 'refused')
      }
    },

    signInEnded: (refreshToken: string) => received.set(refreshToken, 'sign-in'),

    /** The record of a session has changed. */
    stored: ({ refreshToken: old }: ActiveRecord, { refreshToken: next }: ActiveRecord) => {
      if (old === next) return
      if (old !== undefined && answered.has(old)) settled.add(old)
      if (next === undefined) {
        const { first = 0, last = 0 } = refusals.get(old!) ?? {}
        const isRefused = answered.get(old!) === 'refused' || last - first >= proofAfter
        if (!isRefused && isClockSteady()) fail(`${old} was dropped, but not for the server`)
        return
      }
      const from = received.get(next)
      if (!from) fail(`${next} was stored, but no worker has received it`)
      if (from === 'refresh' && !isHeir(next, old)) {
        const parent = server.parentOf(next)
        fail(`two newest refresh tokens: ${next} came for ${parent}, but ${old} is stored`)
      }
    },

    kill: (owner: Owner) => {
      for (const [token, sender] of sending) {
        if (sender === owner) unknown.add(token)
      }
    },
  }
}
