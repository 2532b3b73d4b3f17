import { TokenError, toErrorData } from '../../src/shared/errors.js'
import type { Arrival } from '../http/arrival.js'
import type { Platform } from '../platform.js'
import type { AuthorizationServer, SignIn } from '../server/authorization-server.js'
import {
  activeOf,
  type Outcome,
  type RequestSecrets,
  type Transaction,
} from '../session/records.js'
import type { WorkerSession } from '../session/session.js'
import type { Note } from '../trace.js'
import { randomId } from '../values/random-id.js'
import { interrupted, isSilent, type Landing } from './landing.js'
import { recordAfterSignIn } from './signed-in-record.js'
import { keyOf, type Transactions } from './transactions.js'

/** The callback: the code is taken and redeemed here and nowhere else. */
export type Callback = (arrival: Arrival) => Promise<Response>

const longestCode = 4096

/** Is this a well-formed answer (RFC 6749 4.1.2), each parameter there once at most? */
const isWellFormed = (params: URLSearchParams): boolean => {
  const once = ['state', 'code', 'error', 'iss'].every((name) => params.getAll(name).length <= 1)
  const code = params.get('code')
  const hasOne = (code !== null) !== params.has('error')
  const implicit = params.has('access_token') || params.has('id_token')
  return once && hasOne && !implicit && code !== '' && (code?.length ?? 0) <= longestCode
}

/** The code of an error, which anybody may have put there: one word, and never the description. */
const errorIn = (params: URLSearchParams): string =>
  /^[a-z_]{1,40}$/.exec(params.get('error') ?? '')?.[0] ?? ''

/** What the answer is checked with, if it is well-formed. */
const secretsOf = (transaction: Transaction, params: URLSearchParams): RequestSecrets => {
  const secrets = transaction.report === undefined ? undefined : transaction.sent
  if (isWellFormed(params) && secrets) return secrets
  throw new TokenError('invalid_callback', 'The answer of the authorization server is malformed.')
}

/** Creates the answer to navigations to the redirect URI. */
export function createCallback({
  config,
  server,
  transactions,
  session,
  landing,
  platform: { now },
  note,
}: {
  config: { root: string; scope: string; authorizationParams: Readonly<Record<string, string>> }
  server: Pick<AuthorizationServer, 'redeem' | 'protocolEndpoints' | 'revoke'>
  transactions: Pick<Transactions, 'arrive' | 'finish'>
  session: Pick<WorkerSession, 'read' | 'change' | 'publish' | 'publishEnd'>
  landing: Pick<Landing, 'end' | 'succeed' | 'fail'>
  platform: Pick<Platform, 'now'>
  note?: Note
}): Callback {
  const signIn = async (transaction: Transaction, answer: SignIn): Promise<void> => {
    const completed = {
      transaction,
      signIn: answer,
      // Without a subject, two sign-ins cannot be told to be the same user's.
      user: await keyOf(answer.subject ?? randomId()),
      scope: config.scope,
      now: now(),
      protocolEndpoints: server.protocolEndpoints(),
    }
    const { before, after } = await session.change((current) =>
      recordAfterSignIn(current, completed),
    )
    if (after === before) {
      // Signed out meanwhile. A sign-in of the same user that has taken its place may share a grant.
      const isNobodys = after?.status !== 'active' || after.subject !== answer.subject
      if (isNobodys && answer.refreshToken) await server.revoke(answer.refreshToken)
      throw new TokenError('user_changed', 'The session changed while this was under way.')
    }
    const previous = activeOf(before)
    if (after?.status !== 'active') {
      await session.publishEnd('user_changed')
      if (previous?.refreshToken) await server.revoke(previous.refreshToken)
      throw new TokenError('user_changed', 'The authorization server knows another user.')
    }
    note?.('signed-in')
    const isOther = previous && previous.subject !== after.subject
    if (isOther) await session.publishEnd('user_changed')
    await session.publish(previous?.session === after.session ? 'renewed' : 'signed-in', after)
    if (isOther && previous.refreshToken) await server.revoke(previous.refreshToken)
  }

  /** An answer that was dealt with before: Back, reload, a second send. */
  const arriveAgain = async (
    arrival: Arrival,
    { returnTo, result, createdAt }: Outcome,
  ): Promise<Response> => {
    const current = activeOf(await session.read())
    // A worker that is stopped at the very end has signed in, and could not write that down here.
    if (current && (result === 'signed-in' || current.since >= createdAt)) {
      return landing.end(arrival, returnTo)
    }
    const error = new TokenError(
      'login_interrupted',
      'This answer of the authorization server has been used already. Sign in again.',
    )
    return await landing.fail(arrival, { returnTo, error, isKnown: true })
  }

  return async (arrival) => {
    const { request, url } = arrival
    const params = url.searchParams
    const state = request.method === 'GET' ? (params.get('state') ?? undefined) : undefined
    const transaction = await transactions.arrive(state)
    if (state === undefined || !transaction || transaction.kind === 'logout') {
      const error = new TokenError(
        'unsolicited_callback',
        `An answer of the authorization server arrived that nothing here had asked for. ${errorIn(params)}`,
      )
      // After a sign-out it may be the answer to what that has stopped.
      const record = await session.read()
      const isKnown = record?.status === 'ended' && record.reason === 'logout'
      return await landing.fail(arrival, { returnTo: config.root, error, isKnown })
    }
    if (transaction.kind === 'outcome') return await arriveAgain(arrival, transaction)
    try {
      const secrets = secretsOf(transaction, params)
      const asked = { ...config.authorizationParams, ...transaction.params }
      await signIn(transaction, await server.redeem({ params, state, secrets, asked }))
      await transactions.finish(state, transaction, 'signed-in')
    } catch (cause) {
      const error = interrupted(cause)
      await transactions.finish(state, transaction, { error: toErrorData(error) })
      const isKnown = isSilent(transaction)
      return await landing.fail(arrival, { returnTo: transaction.returnTo, error, isKnown })
    }
    return await landing.succeed(arrival, transaction)
  }
}
