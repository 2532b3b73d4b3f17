import * as oauth from 'oauth4webapi'
import type { RequestSecrets } from '../session/records.js'
import type { Exchange } from './exchange.js'
import type { AuthorizationServerMetadata } from './metadata.js'
import { invalidAnswer, invalidCallback, messageOf, oauthError } from './server-error.js'
import { readJsonAnswer } from './token-answer.js'

/** What an authorization request needs of the configuration. */
export interface AuthorizationRequestConfig {
  clientId: string
  scope: string
  /** The resource indicator of the APIs (RFC 8707). */
  resource?: string
  authorizationParams: Readonly<Record<string, string>>
}

/** What is different in each authorization request. */
export interface AuthorizationRequest {
  state: string
  secrets: RequestSecrets
  /** Beside those of the configuration, which they override. */
  params: Record<string, string>
}

/** Parameters that belong to the protocol, or have an option of their own. */
export const protocolParams: ReadonlySet<string> = new Set(
  (
    'authorization_details client_id code_challenge code_challenge_method dpop_jkt ' +
    'id_token_hint nonce redirect_uri ' +
    'request request_uri resource response_mode response_type scope state'
  ).split(' '),
)

/** Does a sign-in with this scope bring an ID token? */
export const wantsIdToken = ({ scope }: { scope: string }): boolean =>
  scope.split(' ').includes('openid')

/** RFC 6749 4.1.1, RFC 7636 4.3, OpenID Connect Core 3.1.2.1 */
const paramsOf = async (
  config: AuthorizationRequestConfig,
  { state, secrets, params }: AuthorizationRequest,
): Promise<Record<string, string>> => {
  const { clientId, scope, resource, authorizationParams } = config
  const { nonce, verifier, redirectUri, dpopKey } = secrets
  return {
    ...authorizationParams,
    ...params,
    ...(resource && { resource }),
    response_type: 'code',
    client_id: clientId,
    redirect_uri: redirectUri,
    ...(scope && { scope }),
    state,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier),
    code_challenge_method: 'S256',
    ...(wantsIdToken(config) && { nonce }),
    ...(dpopKey && { dpop_jkt: dpopKey.jkt }),
  }
}

/** Pushes the parameters to the server (RFC 9126), and gives what stands for them. */
const push = async (
  params: Record<string, string>,
  { url, exchange }: { url: string; exchange: Pick<Exchange, 'postForm'> },
): Promise<string> => {
  const read = (response: Response) => readJsonAnswer(response, 201)
  const { request_uri: uri } = await exchange.postForm({ url, params, read })
  if (typeof uri !== 'string') throw invalidAnswer('has no request_uri')
  return uri
}

/** The URL of an authorization request; the server has it by then if it wants requests pushed. */
export const buildAuthorizationUrl = async ({
  config,
  as,
  exchange,
  request,
}: {
  config: AuthorizationRequestConfig
  as: AuthorizationServerMetadata
  exchange: Pick<Exchange, 'postForm'>
  request: AuthorizationRequest
}): Promise<string> => {
  const url = new URL(as.authorization_endpoint as string)
  let params = await paramsOf(config, request)
  if (as.require_pushed_authorization_requests) {
    const endpoint = as.pushed_authorization_request_endpoint as string
    const uri = await push(params, { url: endpoint, exchange })
    params = { client_id: config.clientId, request_uri: uri }
  }
  for (const [name, value] of Object.entries(params)) url.searchParams.set(name, value)
  return url.href
}

/**
 * The code in the answer to an authorization request (RFC 6749 4.1.2, RFC 9207).
 *
 * @throws TokenError with the server's own code, or `invalid_callback`
 */
export const codeIn = (
  params: URLSearchParams,
  { as, client, state }: { as: AuthorizationServerMetadata; client: oauth.Client; state: string },
): string => {
  let code: string | null
  try {
    code = oauth.validateAuthResponse(as, client, params, state).get('code')
  } catch (cause) {
    throw cause instanceof oauth.AuthorizationResponseError
      ? oauthError(cause.error, cause.error_description)
      : invalidCallback(messageOf(cause))
  }
  if (!code) throw invalidCallback('it has no code.')
  return code
}
