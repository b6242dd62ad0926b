// What the view says, in both languages. A word of a lead is never looked up on an object, whose prototype has names, too.

const EN = new Map(Object.entries({
    title: "Leads",
    loading: "Loading…",
    refresh: "Refresh",
    sign_out: "Sign out",
    period: "Period",
    last_7_days: "7 days",
    last_30_days: "30 days",
    last_90_days: "90 days",
    as_of: "as of {0}",
    as_answered: "as it was answered in this conversation",
    failed: "could not be loaded: {0}",
    failed_old: "could not be loaded: {0} What is shown is of {1}.",
    late: "No answer since {0}: what is shown may have changed.",
    well: "All is well",
    unwell: "{0} problems",
    unwell_1: "1 problem",
    problems: "What is wrong",
    warnings: "Good to know",
    leads_in: "leads, {0} to {1}",
    leads_of: "leads on {0}",
    before: "{0} than in the {1} days before",
    more: "{0} more",
    fewer: "{0} fewer",
    same: "as many",
    qualified: "qualified",
    not_qualified: "not qualified",
    behind_sinks: "events still to be applied",
    nothing_behind: "store and index have everything",
    letters_open: "dead letters",
    letters_none: "nothing was refused",
    letters_some: "to be replayed or discarded",
    days: "Leads a day",
    day: "Day",
    days_each: "each bar stands for {0} days",
    days_about: "{0} leads from {1} to {2}; most on {3}: {4}",
    not_over: "today is not over",
    leads: "Leads",
    share: "Share",
    as_table: "As a table",
    funnel: "Funnel",
    funnel_about: "A lead counts in the stage it is in and in all before it.",
    stage: "Stage",
    reached: "Reached",
    besides: "Besides: {0}",
    origins: "Where leads come from",
    origem: "Origin",
    created_at: "Day",
    status_lead: "Status",
    utm_campaign: "Campaign",
    others: "all others",
    "(missing)": "not said",
    novo: "New",
    em_contato: "In contact",
    qualificado: "Qualified",
    proposta: "Proposal",
    convertido: "Won",
    perdido: "Lost",
    none_in_period: "No lead arrived in this period.",
    empty: "Empty: run",
    lacking: "Not all is counted yet: {0}",
    parts: "Parts",
    source: "Source",
    log: "Log",
    store: "Store",
    index: "Index",
    source_is: "where leads and chats come from",
    log_is: "where every change is kept until it is applied",
    store_is: "what reports and SQL are answered from",
    index_is: "what searches are answered from",
    answers: "answers",
    no_answer: "does not answer",
    drains: "is being filled",
    paused: "paused by {0}",
    tables: "Rows",
    table: "Table",
    at_source: "Source",
    in_store: "Store",
    in_index: "Index",
    parked: "Dead letters",
    counted: "counted {0}",
    unread: "Not read yet",
    synced: "Last sync",
    reconciled: "Last reconcile",
    never: "never",
    unknown: "unknown",
    unexplained: "{0} unexplained",
    lag: "Lag and delay, last day",
    lag_about: "Events that were still to be applied, and how long the oldest of them had waited, minute by minute since {0}.",
    lag_none: "Measured each minute from the server's start; there is nothing to draw yet.",
    lag_now: "now {0}, at most {1}",
    lag_events: "Events to be applied",
    lag_wait: "Minutes the oldest waited",
    lag_gap: "Not known in {0} of {1} minutes: see what is wrong.",
    syncs: "Latest syncs and reconciles",
    sync: "sync",
    reconcile: "reconcile",
    what: "What",
    state: "State",
    rows: "Rows read",
    events: "New events",
    started: "Started",
    none_yet: "None yet.",
    running: "running",
    draining: "being applied",
    done: "done",
    succeeded: "done",
    failed_state: "failed",
    cancelled: "cancelled",
    interrupted: "interrupted",
    letters: "Dead letters",
    letters_about: "Events that a sink can never take, with the reason, until somebody replays or discards them.",
    reason: "Reason",
    of: "Of",
    parked_at: "Parked",
    and_more: "and {0} more",
    alerts: "Alerts",
    alert: "Alert",
    condition: "Condition",
    fired_count: "Fired",
    last_fired: "Last",
    fired_lately: "What fired lately",
    fired: "fired",
    resolved: "over",
    going_on: "going on",
    quiet: "quiet",
    unsent: "not sent: {0}",
    connect: "Connect a client",
    connect_about: "An assistant that speaks MCP asks the same server, at this address:",
    connect_token: "With a token: put yours where it says $SLUICE_TOKEN.",
    token: "Token",
    sign_in: "Sign in",
    sign_in_about: "This server asks for one of its tokens (SLUICE_HTTP_TOKENS). It is kept in this tab alone, until the tab is closed or you sign out.",
    wrong_token: "This token is not one of the server's.",
    no_longer: "The server no longer takes this token. Sign in again.",
    unreachable: "the server can't be reached.",
    too_slow: "no answer within {0} s.",
    odd_answer: "the server answered with {0} and nothing that can be read.",
    no_host: "The program that shows this does not answer.",
    call_cancelled: "The call was cancelled.",
    call_waits: "Waiting for the answer…",
    no_more: "This client passes no further questions on; ask for leads by day, status or origin to see them here.",
    ago_s: "{0} s ago",
    ago_m: "{0} min ago",
    ago_h: "{0} h ago",
    ago_d: "{0} days ago",
}));

const PT = new Map(Object.entries({
    title: "Leads",
    loading: "Carregando…",
    refresh: "Atualizar",
    sign_out: "Sair",
    period: "Período",
    last_7_days: "7 dias",
    last_30_days: "30 dias",
    last_90_days: "90 dias",
    as_of: "dados de {0}",
    as_answered: "como foi respondido nesta conversa",
    failed: "não foi possível carregar: {0}",
    failed_old: "não foi possível carregar: {0} O que se vê é de {1}.",
    late: "Sem resposta desde {0}: o que se vê pode ter mudado.",
    well: "Tudo em ordem",
    unwell: "{0} problemas",
    unwell_1: "1 problema",
    problems: "O que está errado",
    warnings: "Bom saber",
    leads_in: "leads, de {0} a {1}",
    leads_of: "leads em {0}",
    before: "{0} que nos {1} dias anteriores",
    more: "{0} a mais",
    fewer: "{0} a menos",
    same: "o mesmo",
    qualified: "qualificados",
    not_qualified: "não qualificados",
    behind_sinks: "eventos por aplicar",
    nothing_behind: "banco e índice têm tudo",
    letters_open: "eventos recusados",
    letters_none: "nada foi recusado",
    letters_some: "à espera de reenvio ou descarte",
    days: "Leads por dia",
    day: "Dia",
    days_each: "cada barra vale {0} dias",
    days_about: "{0} leads de {1} a {2}; o maior dia foi {3}: {4}",
    not_over: "o dia de hoje não acabou",
    leads: "Leads",
    share: "Parte",
    as_table: "Em tabela",
    funnel: "Funil",
    funnel_about: "Um lead conta na etapa em que está e em todas as anteriores.",
    stage: "Etapa",
    reached: "Chegaram",
    besides: "Além disso: {0}",
    origins: "De onde vêm os leads",
    origem: "Origem",
    created_at: "Dia",
    status_lead: "Status",
    utm_campaign: "Campanha",
    others: "todos os outros",
    "(missing)": "não informado",
    novo: "Novo",
    em_contato: "Em contato",
    qualificado: "Qualificado",
    proposta: "Proposta",
    convertido: "Convertido",
    perdido: "Perdido",
    none_in_period: "Nenhum lead chegou neste período.",
    empty: "Vazio: rode",
    lacking: "Ainda não está tudo contado: {0}",
    parts: "Partes",
    source: "Fonte",
    log: "Log",
    store: "Banco",
    index: "Índice",
    source_is: "de onde vêm leads e conversas",
    log_is: "onde cada mudança fica até ser aplicada",
    store_is: "o que responde a relatórios e SQL",
    index_is: "o que responde a buscas",
    answers: "responde",
    no_answer: "não responde",
    drains: "sendo preenchido",
    paused: "em pausa por {0}",
    tables: "Linhas",
    table: "Tabela",
    at_source: "Fonte",
    in_store: "Banco",
    in_index: "Índice",
    parked: "Recusados",
    counted: "contagem de {0}",
    unread: "Por ler",
    synced: "Última sincronização",
    reconciled: "Última conferência",
    never: "nunca",
    unknown: "não se sabe",
    unexplained: "{0} sem explicação",
    lag: "Atraso no último dia",
    lag_about: "Eventos por aplicar, e há quanto tempo o mais antigo deles esperava, minuto a minuto desde {0}.",
    lag_none: "Medido a cada minuto desde o início do servidor; ainda não há o que mostrar.",
    lag_now: "agora {0}, no máximo {1}",
    lag_events: "Eventos por aplicar",
    lag_wait: "Espera do mais antigo, em minutos",
    lag_gap: "Não se sabe de {0} dos {1} minutos: veja o que está errado.",
    syncs: "Últimas sincronizações e conferências",
    sync: "sincronização",
    reconcile: "conferência",
    what: "O quê",
    state: "Situação",
    rows: "Linhas lidas",
    events: "Eventos novos",
    started: "Início",
    none_yet: "Ainda nenhuma.",
    running: "em andamento",
    draining: "sendo aplicada",
    done: "concluída",
    succeeded: "concluída",
    failed_state: "falhou",
    cancelled: "cancelada",
    interrupted: "interrompida",
    letters: "Eventos recusados",
    letters_about: "O que um destino nunca pode aceitar, com o motivo, até que alguém reenvie ou descarte.",
    reason: "Motivo",
    of: "De",
    parked_at: "Quando",
    and_more: "e mais {0}",
    alerts: "Alertas",
    alert: "Alerta",
    condition: "Condição",
    fired_count: "Disparos",
    last_fired: "Último",
    fired_lately: "O que disparou há pouco",
    fired: "disparou",
    resolved: "acabou",
    going_on: "acontecendo",
    quiet: "calmo",
    unsent: "não enviado: {0}",
    connect: "Conectar um cliente",
    connect_about: "Um assistente que fala MCP pergunta ao mesmo servidor, neste endereço:",
    connect_token: "Com token: ponha o seu no lugar de $SLUICE_TOKEN.",
    token: "Token",
    sign_in: "Entrar",
    sign_in_about: "Este servidor pede um dos seus tokens (SLUICE_HTTP_TOKENS). Ele fica só nesta aba, até que ela feche ou você saia.",
    wrong_token: "Este token não é deste servidor.",
    no_longer: "O servidor não aceita mais este token. Entre de novo.",
    unreachable: "o servidor não responde.",
    too_slow: "sem resposta em {0} s.",
    odd_answer: "o servidor respondeu com {0} e nada que se possa ler.",
    no_host: "O programa que mostra isto não responde.",
    call_cancelled: "A chamada foi cancelada.",
    call_waits: "Esperando a resposta…",
    no_more: "Este cliente não repassa outras perguntas; peça leads por dia, status ou origem para vê-los aqui.",
    ago_s: "há {0} s",
    ago_m: "há {0} min",
    ago_h: "há {0} h",
    ago_d: "há {0} dias",
}));

/** What is said in a language, and how its numbers and times are written. */
class Words {
    constructor(language, zone) {
        const portuguese = /^pt\b/i.test(language ?? "");
        this.language = portuguese ? "pt-BR" : "en";
        this.words = portuguese ? PT : EN;
        this.zone = zone;
    }

    say(key, ...values) {
        const text = this.words.get(key) ?? key;
        return text.replace(/\{(\d)\}/g, (_, at) => String(values[at]));
    }

    /** A value out of a lead: said in this language where it is one of the known, else as it stands. */
    value(text) {
        return KNOWN.has(text) ? this.say(text) : String(text);
    }

    number(value) {
        return typeof value === "number" ? new Intl.NumberFormat(this.language).format(value) : "–";
    }

    percent(part, whole) {
        if (!whole) return "–";
        const shown = { style: "percent", maximumFractionDigits: 1 };
        return new Intl.NumberFormat(this.language, shown).format(part / whole);
    }

    /** A day of a calendar, 2026-11-26, which is no moment and so in no zone. */
    day(text, shown = { day: "numeric", month: "short" }) {
        const at = new Date(`${text}T00:00:00Z`);
        return Number.isNaN(at.getTime()) ? String(text) : this.format(at, { ...shown, timeZone: "UTC" });
    }

    /** A moment, on the server's clock face. */
    moment(at) {
        const date = new Date(at);
        if (at === undefined || at === null || Number.isNaN(date.getTime())) return this.say("unknown");
        const far = Math.abs(Date.now() - date.getTime()) > 20 * 3600 * 1000;
        const day = far ? { day: "numeric", month: "short" } : { second: "2-digit" };
        return this.format(date, { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...day, timeZone: this.zone });
    }

    ago(seconds) {
        if (typeof seconds !== "number") return this.say("never");
        const [key, count] = seconds < 90 ? ["ago_s", seconds]
            : seconds < 5400 ? ["ago_m", seconds / 60]
            : seconds < 172800 ? ["ago_h", seconds / 3600]
            : ["ago_d", seconds / 86400];
        return this.say(key, Math.round(count));
    }

    format(date, options) {
        try {
            return new Intl.DateTimeFormat(this.language, options).format(date);
        } catch {
            // A browser may know fewer zones than the server.
            return new Intl.DateTimeFormat(this.language, { ...options, timeZone: "UTC" }).format(date) + " UTC";
        }
    }
}

/** Stages of the funnel, in their order. */
const STAGES = ["novo", "em_contato", "qualificado", "proposta", "convertido"];
const KNOWN = new Set([...STAGES, "perdido", "(missing)"]);
