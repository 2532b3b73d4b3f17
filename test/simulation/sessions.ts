/**
 * What must hold for the session record: each change follows the one before, a session begins with
 * a sign-in, ends for a reason that somebody really gave, and never comes back.
 */
import type { WireEvent } from '../../src/shared/protocol.js'
import type { ActiveRecord, SessionRecord } from '../../sw/session/records.js'
import type { ModelServer } from './model-server.js'
import type { Owner, Scheduler } from './scheduler.js'

/** Answers of a hidden frame that say: only with the user. */
const refusals = [
  'account_selection_required',
  'consent_required',
  'interaction_required',
  'login_required',
]

/** ms within which pages have been told that a session has ended, from a slow disk too */
const tellingTakes = 60_000

/** What is known of one sign-in, by what the workers were told. */
interface Known {
  subject?: string
  /** The server refused a silent login for it, and has given no token since. */
  refusedSilently?: boolean
  /** The last refresh token that it held. */
  lastRefreshToken?: string
}

const describe = (record: SessionRecord): string =>
  record.status === 'ended'
    ? `ended (${record.reason})`
    : [
        record.subject,
        record.accessToken,
        record.refreshToken ?? 'no refresh token',
        record.refreshSentAt !== undefined && 'sent',
        record.retry && `pause after ${record.retry.failures}`,
        record.loginRequired && 'login required',
      ]
        .filter(Boolean)
        .join(', ')

export const watchSessions = (
  scheduler: Scheduler,
  server: ModelServer,
  {
    isLoggingOut,
    diskRefused,
    inMemory,
  }: { isLoggingOut: (owner: Owner) => boolean; diskRefused: () => boolean; inMemory: boolean },
  fail: (what: string) => void,
) => {
  let record: SessionRecord | undefined
  const known = new Map<string, Known>()
  /** Whom the sign-ins have brought that workers are busy with, by code. */
  const arriving = new Map<string, { owner: Owner; subject: string | undefined }>()
  /** Access tokens that sign-ins have brought. */
  const signIns = new Set<string>()
  /** Access tokens that have been on the disk. */
  const stored = new Set<string>()
  /** Endings that pages have not been told of yet. */
  let untold: { reason: string; owner: Owner | undefined; at: number }[] = []

  const active = (): ActiveRecord | undefined => (record?.status === 'active' ? record : undefined)

  const checkEnd = (
    { session, refreshToken }: ActiveRecord,
    reason: string,
    by: Owner | undefined,
  ) => {
    const { refusedSilently, lastRefreshToken, subject } = known.get(session) ?? {}
    if (reason === 'logout') {
      if (!by || !isLoggingOut(by))
        fail('the session ended as if by a logout, but nobody has logged out')
    } else if (reason === 'user_changed') {
      const isOther = [...arriving.values()].some(
        (arrival) => arrival.owner === by && arrival.subject !== subject,
      )
      if (!isOther) fail('the session ended as if the user had changed, but nobody else came')
    } else if (reason === 'ended') {
      if (refreshToken !== undefined) fail('the session ended with a refresh token left')
      if (!refusedSilently) fail('the session ended, but no silent login was refused')
      if (server.wouldTake(lastRefreshToken)) fail('the session ended with a good refresh token')
    } else {
      fail(`the session ended: ${reason}`)
    }
  }

  const checkStart = ({ session, accessToken, subject }: ActiveRecord) => {
    if (known.has(session)) fail('a session that had ended is back')
    if (!signIns.has(accessToken ?? '')) fail('a session began without a sign-in')
    known.set(session, { subject })
  }

  return {
    record: () => record,
    active,

    /** The record has changed; gives what it was and is, where somebody was and is signed in. */
    stored: (
      after: SessionRecord,
      { before, by }: { before: SessionRecord | undefined; by: Owner | undefined },
    ): { was?: ActiveRecord; is?: ActiveRecord } => {
      const was = before?.status === 'active' ? before : undefined
      record = after
      const is = active()
      scheduler.note(`  record ${after.generation}: ${describe(after)}`)
      if (after.generation !== (before?.generation ?? 0) + 1) {
        fail(`generation ${after.generation} follows ${before?.generation}: a change was lost`)
      }
      if (is?.accessToken !== undefined) stored.add(is.accessToken)
      if (was && was.subject !== is?.subject) {
        const reason = after.status === 'ended' ? after.reason : 'user_changed'
        if (!by?.dead) untold.push({ reason, owner: by, at: scheduler.time() })
      }
      if (is && was?.session === is.session) {
        if (was.subject !== is.subject) fail('the subject of a session changed')
        if (was.accessToken !== is.accessToken) known.get(is.session)!.refusedSilently = false
      } else if (is) {
        checkStart(is)
      } else if (was && after.status === 'ended') {
        checkEnd(was, after.reason, by)
      }
      const own = is && known.get(is.session)
      // In memory, others may have one, or have lost it.
      if (own && !inMemory) own.lastRefreshToken = is.refreshToken ?? own.lastRefreshToken
      return { was, is }
    },

    /** A worker gets the tokens of a sign-in. */
    signedIn: (
      accessToken: string,
      arrival: { owner: Owner; subject: string | undefined; code: string },
    ) => {
      signIns.add(accessToken)
      arriving.set(arrival.code, arrival)
    },

    /** A worker is done with the answer that had this code. */
    signInEnded: (code: string) => arriving.delete(code),

    /** A worker sends a request with this token. */
    usedAtApi: (accessToken: string) => {
      // What the disk does not take is in the memory of the worker.
      if (diskRefused()) stored.add(accessToken)
      if (!stored.has(accessToken)) fail(`${accessToken} is used, but it is not on the disk`)
    },

    /** A worker gets the answer of a hidden frame that was opened to renew this session. */
    frameAnswered: (session: string | undefined, error: string | null) => {
      const own = session === undefined ? undefined : known.get(session)
      if (own && error !== null && refusals.includes(error)) own.refusedSilently = true
    },

    /** Pages are told. */
    told: (event: WireEvent) => {
      if (event.type === 'signed-out') {
        const index = untold.findIndex(({ reason }) => reason === event.reason)
        if (index < 0) fail(`pages were told of a sign-out (${event.reason}) that there was not`)
        else untold.splice(index, 1)
      }
      if (event.type === 'login-required' && active()?.loginRequired) {
        fail('pages were asked to sign in more than once')
      }
    },

    /** Who is dead tells nobody. */
    kill: (owner: Owner) => {
      untold = untold.filter((ending) => ending.owner !== owner)
    },

    /** Everything has settled. */
    check: () => {
      const old = untold.find(({ at }) => scheduler.time() - at > tellingTakes)
      if (old) fail(`no page was told that the session ended (${old.reason})`)
    },
  }
}
