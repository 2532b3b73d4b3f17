import { TokenError } from '../../src/shared/errors.js'
import { problem } from '../http/problem.js'
import { copyOf } from '../http/request-copy.js'
import type { Platform } from '../platform.js'
import { activeOf, type DpopKey, type SessionRecord } from '../session/records.js'
import type { Store } from '../session/store.js'
import type { KeyHolder } from '../session/stored-session.js'
import { createDpopAnswers, type RepeatReason, type Sent } from './dpop-answer.js'
import { createDpopClocks, createDpopNonces } from './dpop-nonces.js'
import { createDpopKeys, type ProofTarget } from './dpop-proof.js'

/** A request to an API, and the token that it gets. */
export interface ApiMessage {
  request: Request
  /** Overrides parts of the request, as the second argument of `fetch` does. */
  init: RequestInit
  key: DpopKey | undefined
  accessToken: string
}

/** Binds tokens to a key that cannot leave the browser, and proves with it who sends them. */
export interface Dpop extends KeyHolder {
  /** The key for a sign-in: that of the session in `record`, or a new one. */
  keyFor(record: SessionRecord | undefined): Promise<DpopKey>
  /**
   * Sends a grant with a proof, and once more for each of these: a missing nonce, a wrong clock,
   * and, for a refresh, a proof that the browser itself has sent twice. Gives the last answer.
   */
  sendToTokenEndpoint(message: {
    url: string
    init: RequestInit
    key: DpopKey | undefined
    grant: 'authorization_code' | 'refresh_token'
  }): Promise<Response>
  /**
   * Sends a request with its token and a proof, and once more each for a missing nonce and a wrong
   * clock. Gives the last answer.
   */
  sendToApi(message: ApiMessage): Promise<Response>
  /**
   * What gives the request its token and a proof, for code that sends it by itself.
   *
   * @throws TypeError if the key is gone
   */
  prove(message: ApiMessage): Promise<RequestInit>
  /** Takes the nonce in the answer to a request that other code has sent (RFC 9449 8.2). */
  noteNonce(response: Response, origin: string): void
}

/** What the option `dpop` needs of the worker. */
export interface DpopContext {
  store: Pick<Store, 'read' | 'readDpop' | 'writeDpop'>
  platform: Pick<Platform, 'fetch' | 'now'>
  reportProblem: (error: TokenError) => Promise<unknown>
}

/** What {@link dpop} makes, for the option `dpop`. */
export type DpopOption = (worker: DpopContext) => Dpop

/** One request, sent as often as its answers ask for it. */
interface Attempts {
  key: DpopKey | undefined
  target: ProofTarget
  /** Sends it once. */
  sendOnce(proof: string): Promise<Response>
  /** Can it be sent again? */
  isLeft(): boolean
  reasonToRepeat(
    response: Response,
    sent: Sent,
  ): Promise<RepeatReason | undefined> | RepeatReason | undefined
}

const withProof = (init: RequestInit, proof: string, accessToken?: string): RequestInit => {
  const headers = new Headers(init.headers)
  headers.set('dpop', proof)
  if (accessToken) headers.set('authorization', `DPoP ${accessToken}`)
  // A redirect would take the proof along, to another origin too.
  return { ...init, headers, redirect: 'error' }
}

const withTokenAndProof = (
  { request, init, accessToken }: Pick<ApiMessage, 'request' | 'init' | 'accessToken'>,
  proof: string,
): RequestInit => ({
  ...withProof(init, proof, accessToken),
  // Nothing follows a manual redirect, so nothing takes the proof along.
  ...(request.redirect === 'manual' && { redirect: 'manual' }),
})

function createDpop({ store, platform, reportProblem }: DpopContext): Dpop {
  const { now } = platform
  const reported = new Set<string>()

  const reportOnce = (error: TokenError) => {
    if (reported.has(error.message)) return
    reported.add(error.message)
    reportProblem(error).catch(() => {})
  }

  const nonces = createDpopNonces({ store })
  const clocks = createDpopClocks({ now })
  const keys = createDpopKeys({ store, nonces, clocks, reportProblem: reportOnce })
  const answers = createDpopAnswers({ nonces, clocks, reportProblem: reportOnce })

  /** Sends a request until there is no reason to repeat it; undefined if the key is gone. */
  const send = async (attempts: Attempts): Promise<Response | undefined> => {
    const { key, target } = attempts
    const { origin } = target.url
    const tried = new Set<RepeatReason>()
    await nonces.load()
    for (;;) {
      const sent: Sent = { origin, nonce: nonces.of(origin), at: now() }
      const proof = await keys.sign(key, target)
      if (!proof) return
      const response = await attempts.sendOnce(proof)
      const reason = await attempts.reasonToRepeat(response, sent)
      if (!reason || tried.has(reason) || !attempts.isLeft()) return response
      tried.add(reason)
      response.body?.cancel().catch(() => {})
    }
  }

  const targetOf = ({ request, accessToken }: ApiMessage): ProofTarget => ({
    url: new URL(request.url),
    method: request.method,
    accessToken,
  })

  return {
    canUse: keys.canUse,
    keyFor: keys.keyFor,
    noteNonce: nonces.note,

    changed: (before, after) => {
      const old = activeOf(before)
      const current = activeOf(after)
      if (old?.session === current?.session || !old?.dpopKey) return
      if (old.dpopKey.jkt !== current?.dpopKey?.jkt) keys.drop(old.dpopKey.jkt)
      // The server chooses nonces, so they could show it who was here before.
      nonces.clear()
    },

    sendToTokenEndpoint: async ({ url, init, key, grant }) => {
      const response = await send({
        key,
        target: { url: new URL(url), method: init.method ?? 'GET' },
        sendOnce: (proof) => platform.fetch(url, withProof(init, proof)),
        isLeft: () => true,
        reasonToRepeat: (response, sent) => answers.ofTokenEndpoint(response, sent, grant),
      })
      if (response) return response
      // As if the server had refused what is bound to the key.
      if (grant === 'refresh_token') {
        return Response.json({ error: 'invalid_grant' }, { status: 400 })
      }
      throw new TokenError(
        'login_interrupted',
        'The DPoP key of this sign-in is gone: this browser does not store keys, and has stopped ' +
          'the worker meanwhile. Sign in again.',
      )
    },

    sendToApi: async (message) => {
      let next: Request | undefined = message.request
      const response = await send({
        key: message.key,
        target: targetOf(message),
        sendOnce: (proof) => {
          const current = next as Request
          next = copyOf(current)
          return platform.fetch(current, withTokenAndProof(message, proof))
        },
        isLeft: () => next !== undefined,
        reasonToRepeat: answers.ofApi,
      })
      return response ?? problem(401, 'The DPoP key is gone')
    },

    prove: async (message) => {
      await nonces.load()
      const proof = await keys.sign(message.key, targetOf(message))
      if (!proof) throw new TypeError('The DPoP key is gone.')
      return withTokenAndProof(message, proof)
    },
  }
}

/**
 * Binds the tokens to a key pair of this browser (DPoP, RFC 9449), for the option `dpop`: a stolen
 * token, from the network or from the disk, is useless without the key, and the key's private half
 * cannot be exported. The authorization server has to issue such tokens, and each API has to check
 * them: docs/recipes.md.
 *
 * @example
 * createTokenWorker({ issuer, clientId, apis, dpop: dpop() }).listen({ claim: true })
 *
 * @see https://www.rfc-editor.org/rfc/rfc9449
 */
export const dpop = (): DpopOption => createDpop
