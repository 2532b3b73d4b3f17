/**
 * What must hold for revoking: a refresh token whose session was ended by its user, or by another
 * one, is revoked; one that is in use is not.
 */
import type { ActiveRecord, SessionRecord } from '../../sw/session/records.js'
import { type Answer, bodyOf, type ModelServer } from './model-server.js'
import type { Exchange } from './network.js'
import type { Owner, Scheduler } from './scheduler.js'

/** ms within which a worker that can reach the server has asked it */
const patience = 60_000

/**
 * Is a sign-in that is dropped revoked while somebody else is signed in, too? A hidden frame that
 * has found another user leaves that user's refresh token with nobody: to be set once that is
 * mended.
 */
const isOtherUsersRevoked = false

interface Due {
  token: string
  owner: Owner
  at: number
  why: string
}

/** A refresh token that a worker has got and not stored yet. */
interface Arrival {
  owner: Owner
  token: string
  subject: string | undefined
  /** Of the sign-in; undefined if a refresh has brought it. */
  code: string | null
  /** Its user was signed in at any time since: sign-ins of one user can share a grant. */
  mayBeShared: boolean
}

const mayShare = (record: ActiveRecord, subject: string | undefined): boolean =>
  record.subject === subject || !isOtherUsersRevoked

export const watchRevocations = (
  scheduler: Scheduler,
  server: ModelServer,
  {
    record,
    isClockRight,
    diskRefused,
    fail,
  }: {
    record: () => SessionRecord | undefined
    isClockRight: () => boolean
    diskRefused: () => boolean
    fail: (what: string) => void
  },
) => {
  const due = new Map<string, Due>()
  const asked = new Set<string>()
  /** By refresh token. */
  const arrivals = new Map<string, Arrival>()

  const expect = (token: string | undefined, owner: Owner | undefined, why: string) => {
    if (token === undefined || !owner || owner.dead || asked.has(token)) return
    due.set(token, { token, owner, at: scheduler.time(), why })
  }

  const active = () => {
    const current = record()
    return current?.status === 'active' ? current : undefined
  }

  return {
    /** The record has changed: what it was and is. */
    stored: (was: ActiveRecord | undefined, after: SessionRecord, owner: Owner | undefined) => {
      const is = after.status === 'active' ? after : undefined
      if (is?.refreshToken !== undefined) arrivals.delete(is.refreshToken)
      for (const arrival of arrivals.values()) {
        if (is && mayShare(is, arrival.subject)) arrival.mayBeShared = true
      }
      if (!was || was.session === is?.session) return
      if (after.status === 'ended' && after.reason === 'ended') return
      if (is && is.subject === was.subject) return
      expect(was.refreshToken, owner, is ? 'another user signed in' : 'its session ended')
    },

    /** A worker gets tokens. */
    arrived: ({ owner, params }: Exchange, answer: Answer) => {
      const { refresh_token: token, access_token: accessToken } = bodyOf(answer)
      if (typeof token !== 'string') return
      const subject = server.ownerOf(String(accessToken))
      const current = active()
      const mayBeShared = current !== undefined && mayShare(current, subject)
      arrivals.set(token, { owner, token, subject, code: params.get('code'), mayBeShared })
    },

    /** A worker is done with its sign-in, or with its refresh. */
    settled: (done: { code: string } | { refreshOf: Owner }) => {
      for (const { owner, token, subject, code, mayBeShared } of [...arrivals.values()]) {
        const isIt = 'code' in done ? code === done.code : code === null && owner === done.refreshOf
        if (!isIt) continue
        arrivals.delete(token)
        // With a wrong clock an ID token counts as invalid, and the sign-in as failed. A full disk
        // fails it, too.
        if (mayBeShared || !isClockRight() || diskRefused()) continue
        expect(token, owner, `${subject} is not signed in`)
      }
    },

    /** A worker asks the server to revoke a token. */
    sent: (token: string) => {
      asked.add(token)
      due.delete(token)
      if (active()?.refreshToken === token) fail(`${token} was revoked, but it is in use`)
    },

    /** A worker cannot reach the server. */
    unreachable: (owner: Owner) => {
      for (const [token, entry] of due) if (entry.owner === owner) due.delete(token)
    },

    kill: (owner: Owner) => {
      for (const all of [due, arrivals]) {
        for (const [token, entry] of all) if (entry.owner === owner) all.delete(token)
      }
    },

    check: () => {
      for (const { token, at, why } of due.values()) {
        if (scheduler.time() - at > patience) fail(`${token} was never revoked, though ${why}`)
      }
    },
  }
}
