// The worker script that init writes: the options that every app needs, and comments on those that
// this server gives reason for.

/**
 * @typedef {import('./server.mjs').Server} Server
 *
 * @typedef {object} WorkerFacts
 * @property {Server} [server] Absent: a sample to fill in
 * @property {string} [clientId]
 * @property {string} [authPath] If it is not the default
 */

/** A string literal; the text may be the server's. @param {unknown} text */
const literal = (text) =>
  `'${JSON.stringify(String(text)).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'")}'`

/** @param {Server} server @param {string} name @returns {string[] | undefined} */
const list = ({ metadata }, name) =>
  Array.isArray(metadata[name]) ? metadata[name].map(String) : undefined

/** @param {Server} server */
const hostOf = ({ issuer }) => new URL(issuer).hostname

/**
 * What the metadata of some servers does not say. `offline: false`: the server gives refresh tokens
 * without offline_access.
 *
 * @type {{ is: (server: Server) => boolean, offline?: boolean, hints: string[] }[]}
 */
const KNOWN = [
  {
    is: (server) => /\.auth0\.com$/.test(hostOf(server)),
    hints: [
      '// The identifier of your API at Auth0; without it, tokens are not for your API.',
      "// authorizationParams: { audience: 'https://api.example.com' },",
    ],
  },
  {
    is: (server) => /^login\.microsoftonline\.com$|\.ciamlogin\.com$/.test(hostOf(server)),
    hints: ['// Entra ID: add the scope of your API to scope, as api://<its client id>/<name>.'],
  },
  {
    is: (server) =>
      /\.(?:okta|oktapreview|okta-emea)\.com$/.test(hostOf(server)) &&
      !new URL(server.issuer).pathname.startsWith('/oauth2/'),
    hints: [
      "// Okta: this issuer is for Okta's own APIs; your APIs need https://…/oauth2/default.",
    ],
  },
  {
    is: (server) => /^cognito-idp\..+\.amazonaws\.com$/.test(hostOf(server)),
    hints: [
      '// Amazon Cognito knows no prompt=none, so a hidden frame would only cost time.',
      '// silentLogin: false,',
    ],
  },
  {
    is: (server) => /(?:^|\.)identity\.oraclecloud\.com$/.test(hostOf(server)),
    hints: [
      '// Oracle names itself as a second audience of its ID tokens; if sign-in is refused for that:',
      "// trustedAudiences: ['https://identity.oraclecloud.com/'],",
    ],
  },
  {
    is: ({ metadata }) =>
      String(metadata['authorization_endpoint']).includes('/protocol/openid-connect/'),
    offline: false,
    hints: [
      '// Keycloak gives refresh tokens without offline_access, which would outlive its sign-in.',
    ],
  },
]

/** @param {Server} server */
const knownAs = (server) => KNOWN.find(({ is }) => is(server))

/** @param {Server | undefined} server @returns {string[]} */
const scopeLines = (server) => {
  const line = (/** @type {string[]} */ ...names) => `scope: '${names.join(' ')}',`
  if (!server) {
    return [
      '// offline_access asks most servers for a refresh token. Leave it out for Keycloak, and for',
      '// a server that does not list it among its scopes.',
      line('openid', 'profile', 'offline_access'),
    ]
  }
  const known = knownAs(server)
  const scopes = list(server, 'scopes_supported')
  const profile = !scopes || scopes.includes('profile') ? ['profile'] : []
  const refreshes = (list(server, 'grant_types_supported') ?? ['refresh_token']).includes(
    'refresh_token',
  )
  if (known?.offline === false) return [line('openid', ...profile)]
  if (!refreshes) {
    return [
      '// The server lists no refresh tokens (grant_types_supported), so access tokens are renewed',
      "// in a hidden frame, for which the server's cookies have to reach that frame.",
      line('openid', ...profile),
    ]
  }
  if (scopes?.includes('offline_access')) {
    return [
      '// With offline_access, this server gives a refresh token.',
      line('openid', ...profile, 'offline_access'),
      ...(known
        ? []
        : [
            '// If no refresh token comes all the same, the server wants to ask the user for it:',
            "// authorizationParams: { prompt: 'consent' },",
          ]),
    ]
  }
  return [
    scopes
      ? '// The server does not list offline_access: refresh tokens come without it, or not at all.'
      : '// The server does not list its scopes. If no refresh token comes, try offline_access.',
    line('openid', ...profile),
  ]
}

/** What else the server's metadata gives reason to say. @param {Server} server @returns {string[]} */
const hintLines = (server) => {
  const { metadata } = server
  const hints = [...(knownAs(server)?.hints ?? [])]
  const prompts = list(server, 'prompt_values_supported')
  if (prompts && !prompts.includes('none')) {
    hints.push(
      '// The server does not list prompt=none, which a hidden frame needs. To do without frames:',
      '// silentLogin: false,',
    )
  }
  if (list(server, 'dpop_signing_alg_values_supported')?.includes('ES256')) {
    hints.push(
      '// Binds the tokens to a key of this browser (DPoP), if your APIs can do that as well:',
      '// dpop: tokenward.dpop(),',
    )
  }
  if (metadata['require_pushed_authorization_requests'] === true) {
    hints.push('// The server requires pushed authorization requests (PAR); the worker sends them.')
  } else if (typeof metadata['pushed_authorization_request_endpoint'] === 'string') {
    hints.push(
      '// The server takes pushed authorization requests (PAR). The worker pushes them where the',
      '// metadata requires it, so do not require them for this client alone.',
    )
  }
  if (typeof metadata['end_session_endpoint'] !== 'string') {
    hints.push(
      '// The server names no page that signs out. If it has one:',
      "// logoutUrl: ({ clientId }) => 'https://login.example.com/logout?client_id=' + clientId,",
    )
  }
  return hints
}

const USED = [
  'authorization_endpoint',
  'token_endpoint',
  'revocation_endpoint',
  'end_session_endpoint',
  'pushed_authorization_request_endpoint',
  'jwks_uri',
]
const SWITCHES = [
  'require_pushed_authorization_requests',
  'authorization_response_iss_parameter_supported',
]

/** @param {Server | undefined} server @returns {string[]} */
const issuerLines = (server) => {
  if (!server || server.isDiscovered) {
    return [
      "// Spelled as in the server's metadata, to the last slash.",
      `issuer: ${literal(server?.issuer ?? 'https://login.example.com')},`,
    ]
  }
  const { metadata } = server
  return [
    "// The server's metadata is at /.well-known/oauth-authorization-server (RFC 8414), where the",
    '// worker does not look, so what the worker needs of it stands here.',
    'issuer: {',
    `  issuer: ${literal(server.issuer)},`,
    ...USED.filter((name) => typeof metadata[name] === 'string').map(
      (name) => `  ${name}: ${literal(metadata[name])},`,
    ),
    ...SWITCHES.filter((name) => metadata[name] === true).map((name) => `  ${name}: true,`),
    '},',
  ]
}

const IMPORT = [
  'importScripts(',
  '  /^(localhost|127\\.0\\.0\\.1)$/.test(location.hostname)',
  "    ? 'tokenward-worker.development.js' // says in words what is wrong",
  "    : 'tokenward-worker.js',",
  ')',
]

/**
 * The call alone, for a worker that is there already.
 *
 * @param {WorkerFacts} facts @param {boolean} isBundled
 */
export const workerCall = ({ server, clientId, authPath }, isBundled) => {
  const options = [
    ...issuerLines(server),
    '// A public client (no secret), with the URIs that init prints.',
    `clientId: ${literal(clientId ?? 'my-app')},`,
    "// The APIs that get the access token: URLs, or paths of this site such as '/api/'.",
    "apis: ['https://api.example.com/'],",
    ...scopeLines(server),
    ...(authPath ? [`authPath: ${literal(authPath)},`] : []),
    ...(server ? hintLines(server) : []),
  ]
  const call = [
    'tokenward.createTokenWorker({',
    ...options.map((line) => `  ${line}`),
    '}).listen({ claim: true })',
  ].join('\n')
  return isBundled
    ? `import * as tokenward from 'tokenward/worker'\n\n${call}`
    : `${IMPORT.join('\n')}\n\n${call}`
}

/** @param {WorkerFacts} facts */
export const workerScript = (facts) =>
  [
    '// The service worker of this site. It signs users in and adds the access token to requests to',
    '// the APIs below; this file is all the configuration there is. Written by npx tokenward init,',
    '// which never changes it again.',
    '',
    workerCall(facts, false),
    '',
  ].join('\n')
