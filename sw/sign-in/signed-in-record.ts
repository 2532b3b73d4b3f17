import type { SignIn } from '../server/authorization-server.js'
import { withTokens } from '../session/active-record.js'
import {
  type ActiveRecord,
  activeOf,
  lastLogoutOf,
  type SessionRecord,
  type Transaction,
} from '../session/records.js'
import { randomId } from '../values/random-id.js'
import { isSilent } from './landing.js'

/** What is meant for one sign-in, and would be refused or wrong when it is repeated without a page. */
const onceOnly =
  /^(prompt|max_age|claims|login_hint|screen_hint|invitation|kc_action|login_ticket|sessiontoken)$/i

/** What shaped a sign-in: which organization, which connection, how strong. */
const shapeOf = ({ params = {} }: Transaction): ActiveRecord['params'] =>
  Object.fromEntries(Object.entries(params).filter(([name]) => !onceOnly.test(name)))

/** A sign-in that has come back from the server. */
export interface CompletedSignIn {
  transaction: Transaction
  /** What the server has answered. */
  signIn: SignIn
  /** A hash of its subject. */
  user: string
  /** The scope that was asked for. */
  scope: string
  /** ms since 1970 */
  now: number
  protocolEndpoints: readonly string[]
}

/** Is this answer late: has the session changed since the sign-in began? */
const isLate = (
  current: SessionRecord | undefined,
  { session, generation = Infinity, kind }: Transaction,
): boolean => {
  const active = activeOf(current)
  if (isSilent({ kind })) {
    // Signed out, or in as another user, while the hidden frame was under way.
    if (active?.session !== session) return true
    // Signed in and out again since then: a late answer must not undo that.
    if (!active && (current?.generation ?? Infinity) !== generation) return true
  }
  // Signed out while the code was redeemed: before that, the sign-out takes the transaction.
  return (lastLogoutOf(current) ?? 0) > generation
}

/** The record that a sign-in leads to from the present one; undefined if it comes too late. */
export const recordAfterSignIn = (
  current: SessionRecord | undefined,
  { transaction, signIn, user, scope, now, protocolEndpoints }: CompletedSignIn,
): SessionRecord | undefined => {
  if (isLate(current, transaction)) return
  const active = activeOf(current)
  const silent = isSilent(transaction)
  if (silent && active && active.subject !== signIn.subject) {
    return { status: 'ended', generation: 0, reason: 'user_changed' }
  }
  const base: ActiveRecord =
    silent && active
      ? active
      : {
          status: 'active',
          generation: 0,
          session: randomId(),
          since: now,
          claims: {},
          scope,
          accessTokenIssuedAt: 0,
          protocolEndpoints: [],
          silentLoginWorks: active?.silentLoginWorks,
          params: shapeOf(transaction),
          user,
        }
  const dpopKey = transaction.report === undefined ? undefined : transaction.sent?.dpopKey
  // A refresh token that is bound to another key is worthless.
  const isSameKey = base.dpopKey?.jkt === dpopKey?.jkt
  const kept = isSameKey ? base : { ...base, dpopKey, refreshToken: undefined }
  return {
    ...withTokens(kept, signIn),
    claims: { ...base.claims, ...signIn.claims },
    protocolEndpoints,
    subject: signIn.subject,
    idToken: signIn.idToken ?? base.idToken,
    hintRefused: signIn.idToken ? undefined : base.hintRefused,
    silentLoginWorks: silent || base.silentLoginWorks,
    silentLoginFailed: undefined,
  }
}
