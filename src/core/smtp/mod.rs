//! Both sides of the SMTP dialogue as machines without sockets.
