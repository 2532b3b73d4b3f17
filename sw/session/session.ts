import { type TokenError, toErrorData } from '../../src/shared/errors.js'
import type {
  Session,
  SessionReport,
  SignedOutReason,
  WireEvent,
} from '../../src/shared/protocol.js'
import type { Platform } from '../platform.js'
import type { IssuedTokens } from '../server/authorization-server.js'
import type { Dpop } from '../server/dpop.js'
import type { Note } from '../trace.js'
import { pauseAfter } from './backoff.js'
import type { ActiveRecord, SessionRecord, Store } from './store.js'

/** After a pause this long in ms an announcement may have been missed: the record is read again. */
const trustMemoryFor = 1_000

/** A clock that was set back by more than this, in ms, makes the times of a token worthless. */
const tolerableSetback = 60_000

/** Is there an access token, and has it time left as far as the clock can tell? */
export const hasLiveToken = (record: ActiveRecord, now: number): boolean =>
  record.accessToken !== undefined &&
  now >= record.accessTokenIssuedAt - tolerableSetback &&
  now < (record.accessTokenExpiresAt ?? Infinity)

/** The record with a new access token, and what is written about renewals tidied up. */
export const withTokens = (record: ActiveRecord, tokens: IssuedTokens): ActiveRecord => ({
  ...record,
  accessToken: tokens.accessToken,
  accessTokenIssuedAt: tokens.issuedAt,
  accessTokenExpiresAt: tokens.expiresAt,
  // A missing scope means: as before (RFC 6749 5.1).
  scope: tokens.scope ?? record.scope,
  // A missing refresh token too (RFC 6749 6); what was unknown of the old one stays unknown.
  refreshToken: tokens.refreshToken ?? record.refreshToken,
  refreshSentAt: tokens.refreshToken === undefined ? record.refreshSentAt : undefined,
  retry: undefined,
  loginRequired: undefined,
})

/** Whose the profile was, and that it has been two users', stays known after a session. */
const inherit = (record: SessionRecord, from: SessionRecord | undefined): SessionRecord => {
  const { user = from?.user } = record
  const isOther = from !== undefined && from.user !== user
  const usersChanged = isOther || record.usersChanged || from?.usersChanged
  return { ...record, user, usersChanged: usersChanged || undefined }
}

/**
 * The session record in memory and on disk. Every change goes to the disk first, is announced to
 * the other workers of this origin and their pages, and reaches our own pages as events.
 */
export const createSession = (
  store: Pick<Store, 'name' | 'inMemory' | 'read' | 'update'>,
  /** Scope of this worker: the pages in there are told by it, so they need no announcement. */
  scope: string,
  { now, random, channel }: Pick<Platform, 'now' | 'random' | 'channel'>,
  tellPages: (event: WireEvent) => Promise<void>,
  note?: Note,
  dpop?: Pick<Dpop, 'canUse' | 'changed'>,
  /** What else was kept for the user goes, before anybody hears of the end. */
  forget?: (reason: SignedOutReason) => Promise<unknown>,
) => {
  let memory: { record: SessionRecord | undefined } | undefined
  let lastUsed = 0
  let renewing = false
  /** Counts announcements and own changes: what was asked of the disk before one may be behind. */
  let heard = 0

  /** Nothing was there when the record was last read. */
  let isEmpty = false

  const letGo = () => {
    heard++
    memory = undefined
  }

  /** A session that ended in another worker: what only we have must not outlive it. */
  const followEnd = async (user: string | undefined) => {
    const record = await store.read()
    if (record?.status === 'ended') await forget?.(record.reason)
    else if (record && user !== undefined && record.user !== user) await forget?.('user_changed')
  }

  const others = channel(store.name, () => {
    const user = memory?.record?.user
    letGo()
    if (store.inMemory || forget) followEnd(user).catch(() => {})
  })

  /** What is stored has gone: who was signed in finds out by asking. */
  const lost = () => {
    letGo()
    others.post({ generation: 0, scope: '' })
  }

  /** The record as it is good for: without a key, tokens that are bound to it are not. */
  const usable = <R extends SessionRecord | undefined>(record: R): R =>
    record?.status === 'active' && (dpop ? !dpop.canUse(record.dpopKey) : record.dpopKey)
      ? { ...record, accessToken: undefined, refreshToken: undefined }
      : record

  /** The record, if memory can be trusted with it: synchronous, for the hot path. */
  const peek = (): SessionRecord | undefined => {
    const pause = now() - lastUsed
    lastUsed += pause
    if (pause > trustMemoryFor || pause < 0) memory = undefined
    return memory?.record
  }

  const readAgain = async (): Promise<SessionRecord | undefined> => {
    const heardBefore = heard
    const record = usable(await store.read())
    if (heard !== heardBefore) return usable(await store.read())
    if (!record && !isEmpty) lost()
    isEmpty = !record
    memory = { record }
    lastUsed = now()
    return record
  }

  /** What pages may know of a record: no token, no protocol state. */
  const view = (record: ActiveRecord): Session => ({
    claims: record.claims,
    scope: record.scope,
    state: renewing ? 'renewing' : hasLiveToken(record, now()) ? 'fresh' : 'stale',
    since: record.since,
    accessTokenExpiresAt: record.accessTokenExpiresAt,
  })

  /** Changes the record on disk by compare and set: see `update` in store.ts. */
  const change = async (
    next: (current: SessionRecord | undefined) => SessionRecord | undefined,
  ) => {
    const heardBefore = heard
    const { before, after } = await store.update((current) => {
      const shown = usable(current)
      let wanted = next(shown)
      // Tokens that this worker cannot use stay for one that has their key.
      if (shown !== current && wanted?.status === 'active' && current?.status === 'active') {
        const { accessToken, refreshToken, dpopKey } = current
        const isSame = dpopKey && wanted.dpopKey === dpopKey && !wanted.accessToken
        if (isSame) wanted = { ...wanted, accessToken, refreshToken }
      }
      // Inside the transaction: whoever hears it and reads has to wait for the commit, and a
      // worker that is stopped right after the commit has told the others of it.
      if (wanted) others.post({ generation: (current?.generation ?? 0) + 1, scope })
      return wanted && inherit(wanted, current)
    })
    memory = heard === heardBefore ? { record: usable(after) } : undefined
    // With something to repair on the disk, a look at it takes long enough to be overtaken.
    heard++
    dpop?.changed(before, after)
    return { before, after }
  }

  /** Changes the record only while it still belongs to this sign-in. */
  const changeOwn = async (
    session: string,
    next: (current: ActiveRecord) => SessionRecord | undefined,
  ): Promise<ActiveRecord | undefined> => {
    const { after } = await change((current) =>
      current?.status === 'active' && current.session === session ? next(current) : undefined,
    )
    return after?.status === 'active' && after.session === session ? after : undefined
  }

  /** The record with a pause before the next renewal, which every tab and worker keeps. */
  const pause = (record: ActiveRecord, retryAfter?: number): ActiveRecord => {
    const failures = (record.retry?.failures ?? 0) + 1
    const notBefore = now() + pauseAfter(failures, random(), retryAfter)
    const asked = retryAfter === undefined ? undefined : true
    return { ...record, retry: { failures, notBefore, asked } }
  }

  const tellEnded = async (reason: SignedOutReason) => {
    renewing = false
    note?.('signed-out', { code: reason })
    await forget?.(reason)
    await tellPages({ type: 'signed-out', reason })
  }

  return {
    peek,
    readAgain,
    change,
    changeOwn,
    pause,
    tellEnded,
    lost,

    read: async (): Promise<SessionRecord | undefined> => peek() ?? (await readAgain()),

    report: (record: SessionRecord | undefined): SessionReport =>
      record?.status === 'active'
        ? { session: view(record), loginRequired: record.loginRequired }
        : { ended: record?.reason },

    /** Ends this sign-in, or whichever there is, and tells every page why. Gives what it was. */
    end: async (reason: SignedOutReason, session?: string): Promise<ActiveRecord | undefined> => {
      const { before, after } = await change((current) =>
        current?.status === 'active' && current.session === (session ?? current.session)
          ? { status: 'ended', generation: 0, reason }
          : undefined,
      )
      if (after === before || before?.status !== 'active') return
      await tellEnded(reason)
      return before
    },

    /** Tells pages of a renewal that has begun or ended; the record itself has not changed. */
    setRenewing: async (value: boolean, record: SessionRecord | undefined) => {
      if (renewing === value) return
      renewing = value
      if (record?.status === 'active') await tellPages({ type: 'state', session: view(record) })
    },

    tell: (type: 'signed-in' | 'renewed', record: ActiveRecord) => {
      renewing = false
      return tellPages({ type, session: view(record) })
    },

    tellProblem: (error: TokenError) => tellPages({ type: 'problem', error: toErrorData(error) }),

    /** Pauses, and asks for a sign-in: once until the next token. */
    requireLogin: async (session: string, error: TokenError) => {
      const record = await readAgain()
      if (record?.status !== 'active' || record.session !== session) return
      // Where nothing is told here, `setRenewing` tells that the renewal has ended.
      if (!record.loginRequired) {
        renewing = false
        const data = toErrorData(error)
        // Before it is written down: a worker that is stopped then tells it twice, not never.
        await tellPages({ type: 'login-required', error: data, session: view(record) })
      }
      await changeOwn(session, (current) => {
        const asked: ActiveRecord = { ...current, loginRequired: true }
        // The next page that opens can do it at once, if until then the server is not asked either.
        if (error.code !== 'no_page' || current.refreshToken) return pause(asked)
        return current.loginRequired ? undefined : asked
      })
    },
  }
}

export type WorkerSession = ReturnType<typeof createSession>
