-- Whether what its calls say and are answered is logged: true or false, null for the project's choice, and its for the setting's.
alter table keys add column log_content boolean;
alter table projects add column log_content boolean;
