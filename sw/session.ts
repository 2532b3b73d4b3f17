import { type TokenError, toErrorData } from '../src/shared/errors.js'
import type { Session, SessionReport, SignedOutReason, WireEvent } from '../src/shared/protocol.js'
import type { IssuedTokens } from './authorization-server.js'
import type { Platform } from './platform.js'
import type { ActiveRecord, SessionRecord, Store } from './store.js'
import type { Trace } from './trace.js'

/** After a pause this long in ms an announcement may have been missed: the record is read again. */
const trustMemoryFor = 1_000

/** A clock that was set back by more than this, in ms, makes the times of a token worthless. */
const tolerableSetback = 60_000

/** Is there an access token, and has it time left as far as the clock can tell? */
export const hasLiveToken = (record: ActiveRecord, now: number): boolean =>
  record.accessToken !== undefined &&
  now >= record.accessTokenIssuedAt - tolerableSetback &&
  !(record.accessTokenExpiresAt !== undefined && now >= record.accessTokenExpiresAt)

/** The record with a new access token, and what is written about renewals tidied up. */
export const withTokens = (record: ActiveRecord, tokens: IssuedTokens): ActiveRecord => {
  const { accessTokenExpiresAt: _e, retry: _r, loginRequired: _l, ...rest } = record
  const next: ActiveRecord = {
    ...rest,
    accessToken: tokens.accessToken,
    accessTokenIssuedAt: tokens.issuedAt,
    ...(tokens.expiresAt !== undefined && { accessTokenExpiresAt: tokens.expiresAt }),
    // A missing scope means: as before (RFC 6749 5.1).
    scope: tokens.scope ?? record.scope,
  }
  if (tokens.refreshToken !== undefined) {
    next.refreshToken = tokens.refreshToken
    delete next.refreshSentAt
  }
  return next
}

/**
 * The session record in memory and on disk. Every change goes to the disk first, is announced to
 * the other workers of this origin, and reaches the pages as events.
 */
export const createSession = (
  store: Store,
  { now, channel }: Pick<Platform, 'now' | 'channel'>,
  tellPages: (event: WireEvent) => Promise<void>,
  trace?: Trace,
) => {
  let memory: { record: SessionRecord | undefined } | undefined
  let lastUsed = 0
  let renewing = false

  const others = channel(store.name, () => {
    memory = undefined
  })

  /** The record, if memory can be trusted with it: synchronous, for the hot path. */
  const peek = (): SessionRecord | undefined => {
    const time = now()
    const pause = time - lastUsed
    lastUsed = time
    if (pause > trustMemoryFor || pause < 0) memory = undefined
    return memory?.record
  }

  const readAgain = async (): Promise<SessionRecord | undefined> => {
    const record = await store.read()
    lastUsed = now()
    memory = { record }
    return record
  }

  const read = async (): Promise<SessionRecord | undefined> => peek() ?? (await readAgain())

  /** What pages may know of a record: no token, no protocol state. */
  const view = (record: ActiveRecord): Session => ({
    claims: record.claims,
    scope: record.scope,
    state: renewing ? 'renewing' : hasLiveToken(record, now()) ? 'fresh' : 'stale',
    since: record.since,
    ...(record.accessTokenExpiresAt !== undefined && {
      accessTokenExpiresAt: record.accessTokenExpiresAt,
    }),
  })

  const report = (record: SessionRecord | undefined): SessionReport => {
    if (record?.status === 'active') return { session: view(record) }
    return record ? { ended: record.reason } : {}
  }

  /** Changes the record on disk by compare and set: see `update` in store.ts. */
  const change = async (
    next: (current: SessionRecord | undefined) => SessionRecord | undefined,
  ) => {
    const result = await store.update(next)
    memory = { record: result.after }
    if (result.changed) others.post({ generation: result.after?.generation })
    return result
  }

  return {
    peek,
    read,
    readAgain,
    view,
    report,
    change,

    /** Changes the record only while it still belongs to this sign-in. */
    changeOwn: async (
      session: string,
      next: (current: ActiveRecord) => ActiveRecord | undefined,
    ): Promise<ActiveRecord | undefined> => {
      const { after } = await change((current) =>
        current?.status === 'active' && current.session === session ? next(current) : undefined,
      )
      return after?.status === 'active' && after.session === session ? after : undefined
    },

    /** Ends this sign-in for good, once, and tells every page why. */
    end: async (session: string | undefined, reason: SignedOutReason) => {
      const { before, changed } = await change((current) =>
        current?.status === 'active' && (session === undefined || current.session === session)
          ? { status: 'ended', generation: 0, reason }
          : undefined,
      )
      if (changed) {
        trace?.({ at: now(), step: 'signed-out', code: reason })
        await tellPages({ type: 'signed-out', reason })
      }
      return changed && before?.status === 'active' ? before : undefined
    },

    /** Tells pages of a renewal that has begun or ended; the record itself has not changed. */
    setRenewing: async (value: boolean, record: ActiveRecord) => {
      renewing = value
      await tellPages({ type: 'state', session: view(record) })
    },

    tell: (type: 'signed-in' | 'renewed' | 'state', record: ActiveRecord) =>
      tellPages({ type, session: view(record) }),

    tellEnded: (reason: SignedOutReason) => {
      trace?.({ at: now(), step: 'signed-out', code: reason })
      return tellPages({ type: 'signed-out', reason })
    },

    tellProblem: (error: TokenError) => tellPages({ type: 'problem', error: toErrorData(error) }),

    /** Asks for a sign-in, once until the next token. */
    requireLogin: async (session: string, error: TokenError) => {
      let told = false
      const record = await change((current) => {
        told =
          current?.status !== 'active' ||
          current.session !== session ||
          current.loginRequired === true
        return told ? undefined : { ...(current as ActiveRecord), loginRequired: true }
      })
      if (told || record.after?.status !== 'active') return
      const event = { type: 'login-required', error: toErrorData(error) } as const
      await tellPages({ ...event, session: view(record.after) })
    },
  }
}

export type WorkerSession = ReturnType<typeof createSession>
