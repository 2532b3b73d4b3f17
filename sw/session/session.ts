import { type InteractionCode, type TokenError, toErrorData } from '../../src/shared/errors.js'
import type {
  Session,
  SessionReport,
  SignedOutReason,
  WireEvent,
} from '../../src/shared/protocol.js'
import type { Platform } from '../platform.js'
import type { Note } from '../trace.js'
import { hasGoodToken, withPause } from './active-record.js'
import type { ActiveRecord, SessionRecord } from './records.js'
import type { Store } from './store.js'
import { createStoredSession, type KeyHolder, type StoredSession } from './stored-session.js'

/** The session as the parts of the worker use it: its record, and the news of it for pages. */
export interface WorkerSession extends StoredSession {
  /** The record with a pause before the next renewal. */
  pause(record: ActiveRecord, retryAfter?: number): ActiveRecord
  /** What a page gets as its answer to `session()`. */
  report(record: SessionRecord | undefined): SessionReport
  /**
   * Ends this sign-in, or whichever there is, and publishes why. Gives what it was. A logout is
   * written down also where nobody is signed in: it stops the sign-ins that are under way.
   */
  end(
    reason: SignedOutReason,
    session?: string,
    code?: InteractionCode,
  ): Promise<ActiveRecord | undefined>
  /** Publishes the end of a session whose record has been changed already. */
  publishEnd(reason: SignedOutReason, code?: InteractionCode): Promise<void>
  /** Publishes that a renewal has begun or ended; the record itself has not changed. */
  setRenewing(value: boolean, record: SessionRecord | undefined): Promise<void>
  /** Publishes a new access token, or another state of the one that is there. */
  publish(type: 'signed-in' | 'renewed' | 'state', record: ActiveRecord): Promise<void>
  reportProblem(error: TokenError): Promise<void>
  /** Pauses, and asks pages for a sign-in: once until the next token. */
  requireLogin(session: string, error: TokenError): Promise<void>
}

/** A page that opens can sign in silently at once, unless the server is asked before then. */
const pausesAfter = (error: TokenError, { refreshToken }: ActiveRecord): boolean =>
  error.code !== 'no_page' || refreshToken !== undefined

/** What pages may know of a record: no token, no protocol state. */
const viewOf = (record: ActiveRecord, state: Session['state']): Session => ({
  claims: record.claims,
  scope: record.scope,
  state,
  since: record.since,
  accessTokenExpiresAt: record.accessTokenExpiresAt,
})

/**
 * Creates the session. The pages in the worker's scope get its events.
 *
 * @param forget Drops what else was kept for the user, before pages get the end of the session
 */
export function createSession({
  config,
  store,
  platform,
  publish,
  note,
  dpop,
  forget,
}: {
  config: { root: string }
  store: Pick<Store, 'name' | 'inMemory' | 'read' | 'update'>
  platform: Pick<Platform, 'now' | 'random' | 'channel' | 'pages'>
  publish: (event: WireEvent) => Promise<void>
  note?: Note
  dpop?: KeyHolder
  forget?: () => Promise<unknown>
}): WorkerSession {
  const { now, random, pages } = platform
  const reportProblem = (error: TokenError) =>
    publish({ type: 'problem', error: toErrorData(error) })
  const disk = { config, store, platform, dpop, forget }
  const stored = createStoredSession({ ...disk, onUnsaved: reportProblem })
  const { readAgain, change, changeOwn } = stored
  let renewing = false

  const view = (record: ActiveRecord): Session =>
    viewOf(record, renewing ? 'renewing' : hasGoodToken(record, now()) ? 'fresh' : 'stale')

  const pause = (record: ActiveRecord, retryAfter?: number): ActiveRecord =>
    withPause(record, { now: now(), chance: random(), retryAfter })

  const publishEnd = async (reason: SignedOutReason, code?: InteractionCode) => {
    renewing = false
    note?.('signed-out', { code: reason })
    await forget?.()
    await publish({ type: 'signed-out', reason, code })
  }

  return {
    ...stored,
    pause,
    publishEnd,

    report: (record) =>
      record?.status === 'active'
        ? { session: view(record), loginRequired: record.loginRequired }
        : { ended: record?.reason, code: record?.code },

    end: async (reason, session, code) => {
      const { before, after } = await change((current) =>
        (
          current?.status === 'active'
            ? current.session === (session ?? current.session)
            : reason === 'logout'
        )
          ? { status: 'ended', generation: 0, reason, code }
          : undefined,
      )
      if (after === before || before?.status !== 'active') return
      await publishEnd(reason, code)
      return before
    },

    setRenewing: async (value, record) => {
      if (renewing === value) return
      renewing = value
      if (record?.status === 'active') await publish({ type: 'state', session: view(record) })
    },

    publish: (type, record) => {
      renewing = false
      return publish({ type, session: view(record) })
    },

    reportProblem,

    requireLogin: async (session, error) => {
      const record = await readAgain()
      if (record?.status !== 'active' || record.session !== session) return
      // A page that opens next can try its own frame: it must not find that it was asked.
      const isHeard = error.code !== 'no_page' || (await pages.list(config.root)).length > 0
      // Without an event from here, `setRenewing` publishes that the renewal has ended.
      if (!record.loginRequired) {
        renewing = false
        const data = toErrorData(error)
        // Before it is written down: a worker that is stopped then publishes it twice, not never.
        await publish({ type: 'login-required', error: data, session: view(record) })
      }
      await changeOwn(session, (current) => {
        const asked: ActiveRecord = isHeard ? { ...current, loginRequired: true } : current
        if (!pausesAfter(error, current))
          return isHeard && !current.loginRequired ? asked : undefined
        return pause(asked)
      })
    },
  }
}
